//! A comparison as one self-contained HTML page with charts and tables, without scripts, in the light or dark scheme of the system.

use std::fmt::Write;

use super::{
    chart::{Bar, Chart},
    report::{HEADER, LEGEND, ModeReport, PipelineReport, Report, row},
};
use crate::table::bytes;

const STYLE: &str = include_str!("report.css");

/// The page.
pub(super) fn page(report: &Report) -> String {
    let model = &report.model;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Hand-over benchmark</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>Hand-over benchmark</h1>\n\
         <p>{} ({}), {} layers, {} KV heads of {}, {}, window {} tokens; seed {}; avp {}.</p>\n",
        escaped(&model.folder),
        escaped(&model.family),
        model.num_layers,
        model.num_kv_heads,
        model.head_dim,
        escaped(&model.kv_dtype),
        model.window,
        report.seed,
        escaped(report.avp),
    );
    for (index, pipeline) in report.pipelines.iter().enumerate() {
        section(&mut page, index, pipeline);
    }
    let legend: String = LEGEND.lines().map(|line| escaped(line) + "\n").collect();
    page + &format!("<pre>{legend}</pre>\n</main>\n</body>\n</html>\n")
}

fn section(page: &mut String, index: usize, report: &PipelineReport) {
    let title = report.pipeline.title();
    let about = format!("{} questions, {}; paired with {}", report.questions, report.dataset, report.against);
    *page += &format!("<section>\n<h2>{}</h2>\n<p>{}</p>\n", escaped(title), escaped(&about));
    for (name, chart) in charts(&report.modes) {
        let svg = chart.svg(&format!("{name}-{index}"));
        *page += &format!("<figure>\n<figcaption>{}</figcaption>\n{svg}\n</figure>\n", escaped(&chart.title));
    }
    *page += &table(&HEADER, report.modes.iter().map(row));
    let agents: Vec<[String; 6]> = report
        .modes
        .iter()
        .flat_map(|mode| {
            mode.agents.iter().map(|agent| {
                [
                    mode.label(),
                    agent.agent.clone(),
                    format!("{:.1}", agent.tokens_read),
                    format!("{:.1}", agent.tokens_written),
                    format!("{:.0}", agent.latent_steps),
                    format!("{:.1} ms", agent.ms),
                ]
            })
        })
        .collect();
    let header = ["mode", "agent", "tokens read", "tokens written", "latent steps", "time"];
    *page += &format!("<details>\n<summary>Each agent</summary>\n{}</details>\n", table(&header, agents));
    let skipped: Vec<String> = report
        .modes
        .iter()
        .flat_map(|mode| {
            let label = mode.label();
            mode.skipped.iter().map(move |(why, count)| format!("<li>{label}: {count} skipped: {why}</li>\n"))
        })
        .collect();
    if !skipped.is_empty() {
        *page += &format!("<ul>\n{}</ul>\n", skipped.concat());
    }
    *page += "</section>\n";
}

/// The charts; the table below them has the numbers.
fn charts(modes: &[ModeReport]) -> [(&'static str, Chart); 4] {
    let one = |value: f64, text: String, mode: &ModeReport| Bar {
        label: mode.label(),
        values: vec![value],
        interval: None,
        text,
    };
    let chart =
        |title: &str, rows: Vec<Bar>| Chart { title: title.to_owned(), rows, legend: Vec::new(), full: None };
    let exact = modes
        .iter()
        .map(|mode| {
            let share = mode.contains;
            Bar {
                interval: (share.total > 0).then_some((share.low, share.high)),
                ..one(share.share, format!("{} of {}", share.right, share.total), mode)
            }
        })
        .collect();
    let mut agents: Vec<String> = Vec::new();
    for agent in modes.iter().flat_map(|mode| &mode.agents) {
        if !agents.contains(&agent.agent) {
            agents.push(agent.agent.clone());
        }
    }
    // The last agent answers in every mode, so it goes last.
    agents.sort_by_key(|name| matches!(name.as_str(), "solver" | "aggregator"));
    let of_agent = |mode: &ModeReport, name: &String| {
        let part = mode.agents.iter().find(|agent| agent.agent == *name);
        part.map_or(0.0, |agent| agent.tokens_read + agent.tokens_written + agent.latent_steps)
    };
    let tokens = modes
        .iter()
        .map(|mode| Bar {
            label: mode.label(),
            values: agents.iter().map(|name| of_agent(mode, name)).collect(),
            interval: None,
            text: format!("{:.0}", mode.tokens),
        })
        .collect();
    let first = modes
        .iter()
        .map(|mode| one(mode.first_token_ms, format!("{:.1} ms", mode.first_token_ms), mode))
        .collect();
    let total = modes
        .iter()
        .map(|mode| {
            let handed = bytes(mode.handover_bytes);
            one(mode.total_ms, format!("{:.0} ms, {handed} handed", mode.total_ms), mode)
        })
        .collect();
    let accuracy = chart("Answers that hold a reference, with 95 % intervals", exact);
    [
        ("accuracy", Chart { full: Some(1.0), ..accuracy }),
        ("tokens", Chart { legend: agents, ..chart("Tokens for one question, by agent", tokens) }),
        ("first", chart("Time to the last agent's first token, hand-over included (median)", first)),
        ("total", chart("Time for one question (median)", total)),
    ]
}

fn table<const N: usize>(header: &[&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
    for cell in header {
        let _infallible = write!(table, "<th scope=\"col\">{}</th>", escaped(cell));
    }
    table += "</tr></thead>\n<tbody>\n";
    for row in rows {
        table += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let cell = escaped(cell);
            table += &match column {
                0 => format!("<th scope=\"row\">{cell}</th>"),
                _ => format!("<td>{cell}</td>"),
            };
        }
        table += "</tr>\n";
    }
    table + "</tbody>\n</table></div>\n"
}

/// Escapes text for elements and attributes of HTML and SVG.
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut html, character| {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
        html
    })
}

#[cfg(test)]
mod tests {
    use super::{super::report::tests::report, *};

    #[test]
    fn the_page_needs_nothing_from_anywhere_and_no_script() {
        let page = page(&report());
        for outside in ["http", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn names_from_outside_are_escaped() {
        let page = page(&report());
        assert!(page.contains("dir/&lt;model&gt;") && !page.contains("<model>"));
    }

    #[test]
    fn every_chart_has_its_words_and_every_element_its_end() {
        let page = page(&report());
        assert_eq!(page.matches("<svg").count(), 4);
        assert_eq!(page.matches("role=\"img\"").count(), 4);
        for element in
            ["svg", "table", "section", "figure", "tr", "td", "th", "text", "desc", "details", "main"]
        {
            let opened =
                page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
        assert!(page.contains("1 skipped: a prompt is longer than the window"));
    }
}
