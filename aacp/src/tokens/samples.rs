//! Sample messages.

use std::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    Explanation, Packet, Version,
    learn::RuleRegistry,
    workflow::{Value, WorkflowError, Workflows},
};

/// A message in English and as a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The name of the message.
    pub name: String,
    /// In English.
    pub english: String,
    /// As a packet.
    pub packet: String,
}

/// The four hops of a payroll run whose token counts the protocol's authors have published, with packets of
/// [`Version::V1_0`], in ten slots, or of 1.1.
///
/// The English and the packets of 1.0 are those of `benchmark/tokenisation_test.py` of the repository MackayAndrew/aacp;
/// the packets of 1.1 are those of the payroll encoder, the second without its list of fields. Compared with the published
/// counts (per hop, whole requests, GPT-4o):
///
/// - English: the first three hops are equal; the published count of the fourth is 5 tokens above that of its text.
/// - Packets of 1.1: all four are equal.
/// - Packets of 1.0: the published packets are longer than the measured ones, which are not published.
pub fn payroll_hops(version: Version) -> Vec<Sample> {
    let packet = |hop: &Hop| if version == Version::V1_0 { hop.packet_1_0 } else { hop.packet_1_1 };
    let sample =
        |hop: &Hop| Sample { name: hop.name.into(), english: hop.english.into(), packet: packet(hop).into() };
    HOPS.iter().map(sample).collect()
}

struct Hop {
    name: &'static str,
    english: &'static str,
    packet_1_0: &'static str,
    packet_1_1: &'static str,
}

const HOPS: [Hop; 4] = [
    Hop {
        name: "fetch employees",
        english: "Please retrieve the employee salary records for the period ending 31 August 2024. I need all active \
                  employees, their departments, cost centres, base salary, any changes made this month, and pension \
                  contribution rates. Return as JSON array.",
        packet_1_0: "FETCH|HR|res:emp_salary|period:2024-08|filter:status=active|\
                     fields:id,dept,cc,base_sal,delta,pension_rate|fmt:json|return:HR-Agent|p:1|aacp:1.0",
        packet_1_1: "FETCH|HR|return:HR-Agent|p:1|aacp:1.1|res:emp_salary|period:2024-08|filter:status=active|fmt:json",
    },
    Hop {
        name: "fetch budgets",
        english: "I now have the payroll data from HRMS. I need you to provide the budget allocations by cost centre so I \
                  can verify that payroll costs fall within approved budgets before we proceed. Please include \
                  year-to-date spend.",
        packet_1_0: "FETCH|FIN|res:budget_cc|period:2024-08||fields:cc_id,approved_budget,ytd_spend|fmt:json|\
                     return:HR-Agent|p:1|aacp:1.0",
        packet_1_1: "FETCH|FIN|return:HR-Agent|p:1|aacp:1.1|res:budget_cc|period:2024-08|fmt:json",
    },
    Hop {
        name: "merge and calculate",
        english: "I have both employee salary data and budget allocations. Please merge these datasets, apply pension \
                  contribution rates, calculate net pay for all employees, apply PAYE deductions, validate totals against \
                  approved budgets, and flag any anomalies. Use payroll rules version 2.",
        packet_1_0: "MERGE|HR|||||| |return:HR-Agent|p:1|aacp:1.0|src:hrms://emp/2024-08,fin://budget_cc/2024-08|\
                     rules:payroll_v2|validate:budget_cc",
        packet_1_1: "MERGE|HR|return:HR-Agent|p:1|aacp:1.1|rules:payroll_v2|validate:budget_cc",
    },
    Hop {
        name: "generate report",
        english: "Payroll calculation is complete. Please generate the monthly payroll report using the standard payroll \
                  monthly template. Include a summary page, department breakdown, anomaly flags, and produce it in both \
                  PDF and Excel format. Include comparison to last month.",
        packet_1_0: "REPORT|HR||||| |fmt:pdf,xlsx|return:HR-Agent|p:2|aacp:1.0|src:pay://run/2024-08|\
                     src_prev:pay://run/2024-07|tmpl:payroll_monthly|highlight:REVIEW_REQ",
        packet_1_1: "REPORT|HR|return:HR-Agent|p:2|aacp:1.1|fmt:pdf,xlsx|highlight:REVIEW_REQ",
    },
];

/// Each packet of each workflow, with arguments of usual length. There is no published English for them, so it is that of
/// [`Explanation`], which is terser than human text.
///
/// # Errors
/// If a call of the table needs arguments other than text. Those of the standard table do not.
pub fn workflow_samples(workflows: &Workflows) -> Result<Vec<Sample>, WorkflowError> {
    let mut samples = Vec::new();
    for workflow in workflows.iter().filter(|workflow| workflow.name() != "general") {
        for spec in workflow.calls() {
            let mut call = workflows.call(workflow.name(), spec.name())?;
            for name in spec.required() {
                call = call.arg(name.as_str(), typical(name));
            }
            // Calls of several steps consist of packets that are counted already.
            if let Ok(packet) = call.packet() {
                let english = english_of(&packet);
                samples.push(Sample {
                    name: format!("{} {}", workflow.name(), spec.name()),
                    english,
                    packet,
                });
            }
        }
    }
    Ok(samples)
}

/// Each rule, with its description as the English.
pub fn rule_samples(rules: &RuleRegistry) -> Vec<Sample> {
    let sample = |rule: &crate::learn::Rule| Sample {
        name: rule.id.clone(),
        english: rule.description.clone(),
        packet: rule.packet.clone(),
    };
    rules.rules().iter().map(sample).collect()
}

fn english_of(packet: &str) -> String {
    Packet::parse(packet).map(|packet| Explanation::of(&packet).to_string()).unwrap_or_default()
}

/// A typical argument.
fn typical(name: &str) -> Value {
    match name {
        "period" => "2024-08".into(),
        "prev_period" => "2024-07".into(),
        "username" => "j.smith".into(),
        "email" => "j.smith@example.com".into(),
        "amount" => 4200.5.into(),
        "currency" => "GBP".into(),
        "supplier" => "ABC Ltd".into(),
        "party" => "Acme Ltd".into(),
        "contract_type" => "NDA".into(),
        "risk" => "high".into(),
        other => other.replace('_', "-").into(),
    }
}
