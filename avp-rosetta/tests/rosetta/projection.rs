//! Single calculations, compared with the peers' results in `test-vectors/projection`.

use std::fs;

use avp_rosetta::{
    Pairs, ProjectOptions, Projection, QualityConfig, SharedTokens, Table, assess_transfer, nearest_cosine,
    soft_embedding, through_matrix, through_vocabulary,
};
use serde::Deserialize;
use serde_json::Value;

use crate::common::repository;

const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    operation: String,
    input: Input,
    expect: Value,
}

type Matrix = Vec<Vec<f32>>;

/// The inputs of all operations; each uses some of them.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Input {
    hidden: Option<Matrix>,
    source_lm_head: Matrix,
    target_embed: Matrix,
    temperature: f32,
    target_norm: Option<f32>,
    src_indices: Vec<u32>,
    tgt_indices: Vec<usize>,
    w_realign: Matrix,
    embed: Matrix,
    e_out: Matrix,
    e_in: Matrix,
    x: Matrix,
    y: Matrix,
    lambda: f64,
    prompt_tokens: usize,
}

fn check(file: &str, expected_cases: usize) {
    let path = repository("test-vectors/projection").join(file);
    let File { cases } = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(cases.len(), expected_cases);
    for case in &cases {
        match case.operation.as_str() {
            "project" => project(case),
            "realign" => realign(case),
            "soft_embedding" => soft(case),
            "realignment_matrix" => {
                let matrix = pairs(&case.input.e_out, &case.input.e_in).ridge(case.input.lambda).unwrap();
                close(case, &matrix, "/w_realign", TOLERANCE);
                close(case, &[table(&case.input.e_in).mean_norm()], "/target_norm", TOLERANCE);
            }
            "ridge" => {
                let matrix = pairs(&case.input.x, &case.input.y).ridge(case.input.lambda).unwrap();
                close(case, &matrix, "/w_map", TOLERANCE);
            }
            "procrustes" => {
                close(case, &pairs(&case.input.x, &case.input.y).procrustes().unwrap(), "/w_map", TOLERANCE);
            }
            "quality" => quality(case),
            other => panic!("{}: no operation {other}", case.name),
        }
    }
}

#[test]
fn projections_realignment_and_quality_equal_avp_0_6_2() {
    check("projection-0.6.2.json", 24);
}

#[test]
fn learned_maps_equal_avp_0_2_1() {
    check("projection-0.2.1.json", 4);
}

fn project(case: &Case) {
    let input = &case.input;
    let head = table(&input.source_lm_head);
    let all = table(&input.target_embed);
    let shared: Matrix = input.tgt_indices.iter().map(|&id| input.target_embed[id].clone()).collect();
    let shared = table(&shared);
    let rows = input.source_lm_head.len().min(input.target_embed.len());
    let common = table(&input.target_embed[..rows]);
    let options = ProjectOptions { temperature: input.temperature, ..ProjectOptions::default() };
    for (kind, table, nearest, tokens) in [
        ("mediated", &all, &common, SharedTokens::Prefix),
        ("overlap", &shared, &shared, SharedTokens::Listed(&input.src_indices)),
    ] {
        let project = |hidden: &Vec<f32>| {
            through_vocabulary(hidden, &head, table, tokens, input.target_norm, &options).unwrap()
        };
        let found: Vec<Projection> = input.hidden.iter().flatten().map(project).collect();
        let vectors: Vec<f32> = found.iter().flat_map(|projection| projection.vector.clone()).collect();
        close(case, &vectors, &format!("/{kind}"), TOLERANCE);
        let metric = |name: &str, value: &dyn Fn(&Projection) -> f32| {
            let values: Vec<f32> = found.iter().map(value).collect();
            close(case, &values, &format!("/{kind}_metrics/{name}"), TOLERANCE);
        };
        metric("entropy", &|found| found.metrics.unwrap().entropy);
        metric("max_prob", &|found| found.metrics.unwrap().max_prob);
        metric("logit_gap", &|found| found.metrics.unwrap().logit_gap);
        metric("hidden_state_norm", &|found| found.hidden_state_norm);
        metric("nearest_cos_sim", &|found| nearest_cosine(&found.vector, nearest).unwrap());
    }
}

fn realign(case: &Case) {
    let norm = case.input.target_norm.unwrap();
    let matrix = case.input.w_realign.concat();
    let realign = |hidden: &Vec<f32>| through_matrix(hidden, &matrix, None, norm).unwrap().vector;
    let found: Vec<f32> = case.input.hidden.iter().flatten().flat_map(realign).collect();
    close(case, &found, "/realigned", TOLERANCE);
}

/// A model's own soft embedding is its projection onto itself.
fn soft(case: &Case) {
    let embed = table(&case.input.embed);
    let options = ProjectOptions { temperature: case.input.temperature, ..ProjectOptions::default() };
    let project = |hidden: &Vec<f32>| {
        through_vocabulary(hidden, &embed, &embed, SharedTokens::Prefix, None, &options).unwrap().vector
    };
    let found: Vec<f32> = case.input.hidden.iter().flatten().flat_map(project).collect();
    close(case, &found, "/soft_embedding", TOLERANCE);
    // All of the probability on one row is that row.
    let mut sure = vec![0.; case.input.embed.len()];
    sure[3] = 1.;
    assert_eq!(soft_embedding(&sure, &embed, 0.).unwrap().vector, case.input.embed[3]);
}

fn quality(case: &Case) {
    let rows = case.input.hidden.as_ref().map(|rows| (rows.concat(), rows[0].len()));
    let hidden = rows.as_ref().map(|(values, width)| (values.as_slice(), *width));
    let found = assess_transfer(case.input.prompt_tokens, hidden, &QualityConfig::default()).unwrap();
    assert_eq!(Value::from(found.recommend_latent), case.expect["recommend_latent"], "{}", case.name);
    assert_eq!(Value::from(found.reason), case.expect["reason"], "{}", case.name);
    match found.effective_rank_ratio {
        None => assert!(case.expect["effective_rank_ratio"].is_null(), "{}", case.name),
        Some(ratio) => close(case, &[ratio as f32], "/effective_rank_ratio", TOLERANCE),
    }
}

fn table(rows: &[Vec<f32>]) -> Table {
    Table::new(rows[0].len(), rows.concat()).unwrap()
}

fn pairs(x: &Matrix, y: &Matrix) -> Pairs {
    Pairs::new(x.len(), &x.concat(), &y.concat()).unwrap()
}

/// Compares with the numbers at `pointer`, flat or nested.
fn close(case: &Case, found: &[f32], pointer: &str, tolerance: f32) {
    let mut expected = Vec::new();
    flatten(case.expect.pointer(pointer).unwrap(), &mut expected);
    assert_eq!(found.len(), expected.len(), "{} {pointer}", case.name);
    for (found, expected) in found.iter().zip(expected) {
        let off = (found - expected).abs();
        assert!(off <= tolerance * expected.abs().max(1.), "{} {pointer}: {found} {expected}", case.name);
    }
}

fn flatten(value: &Value, into: &mut Vec<f32>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| flatten(value, into)),
        value => into.push(value.as_f64().unwrap() as f32),
    }
}
