//! A frame as text.

use std::io::{Result, Write};

use avp_core::Metadata;
use console::style;

use super::record::Record;

/// Writes the fields of a frame; empty ones are left out.
pub(super) fn write(out: &mut impl Write, record: &Record<'_>) -> Result<()> {
    let metadata = &record.metadata;
    writeln!(out, "{}", style(record.file).bold())?;
    let mut line = |name: &str, value: String| -> Result<()> {
        if value.is_empty() { Ok(()) } else { writeln!(out, "  {:<12} {value}", style(name).dim()) }
    };
    line("dialect", record.dialect.unwrap_or("0.2 or 0.3, with the same meaning").to_owned())?;
    line("flags", flags(record))?;
    line("size", format!("{} bytes of metadata, {} of body", record.metadata_length, body_length(record)))?;
    line("session", quoted(metadata.session_id))?;
    line("from", quoted(metadata.source_agent_id))?;
    line("to", quoted(metadata.target_agent_id))?;
    line("model", model(metadata))?;
    line("mode", metadata.mode.to_string())?;
    line("map", quoted(metadata.avp_map_id))?;
    line("payload", payload(record))?;
    line("text", record.text.as_ref().map(|text| format!("{text:?}")).unwrap_or_default())?;
    line("AACP", record.aacp.clone().unwrap_or_default())?;
    line("KV-cache", cache(record))?;
    line("checksum", checksum(record))?;
    line("confidence", metadata.confidence_score.map(|score| score.to_string()).unwrap_or_default())?;
    for (key, value) in metadata.extra {
        line("extra", format!("{key:?}: {value:?}"))?;
    }
    Ok(())
}

fn flags(record: &Record<'_>) -> String {
    let names = record.flag_names.join(", ");
    format!("{:#04x} ({})", record.flags, if names.is_empty() { "none" } else { &names })
}

/// Saturates: the decoder has checked that the metadata is not longer than the payload.
fn body_length(record: &Record<'_>) -> u32 {
    record.payload_length.saturating_sub(record.metadata_length)
}

fn model(metadata: &Metadata<'_>) -> String {
    let mut parts = Vec::new();
    if !metadata.model_id.is_empty() {
        parts.push(quoted(metadata.model_id));
    }
    if metadata.hidden_dim != 0 {
        parts.push(format!("{} wide", metadata.hidden_dim));
    }
    if metadata.num_layers != 0 {
        parts.push(format!("{} layers", metadata.num_layers));
    }
    parts.join(", ")
}

fn payload(record: &Record<'_>) -> String {
    let metadata = &record.metadata;
    let unpacked = if record.compressed { " unpacked" } else { "" };
    format!(
        "{}, {}, {} bytes{unpacked}, shape {:?}",
        metadata.payload_type, metadata.dtype, record.payload_bytes, metadata.tensor_shape
    )
}

fn cache(record: &Record<'_>) -> String {
    match (&record.kv_cache, &record.kv_cache_error) {
        (Some(shape), _) => format!(
            "{} tokens, {} layers of {} KV heads, {} wide, {}, {} bytes per token",
            shape.seq_len,
            shape.num_layers,
            shape.num_kv_heads,
            shape.head_dim,
            shape.dtype,
            record.bytes_per_token.unwrap_or(0),
        ),
        (None, Some(error)) => style(format!("unreadable: {}", error.message)).red().to_string(),
        (None, None) => String::new(),
    }
}

fn checksum(record: &Record<'_>) -> String {
    match &record.checksum {
        None => "none".to_owned(),
        Some(sum) if sum.ok => format!("{} (crc32 {:08x})", style("right").green(), sum.actual),
        Some(sum) => {
            format!("{}: expected {:08x}, got {:08x}", style("wrong").red(), sum.expected, sum.actual)
        }
    }
}

/// Quotes and escapes, so that a frame cannot send control sequences to a terminal.
fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text:?}") }
}
