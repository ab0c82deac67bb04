//! Prints how many tokens each notation takes.
//!
//! `cargo run -p aacp --example tokens --features tokens [rules.json]`

use std::error::Error;

use aacp::{
    Version,
    learn::RuleRegistry,
    tokens::{Table, Vocabulary, payroll_hops, rule_samples, workflow_samples},
    workflow::Workflows,
};

fn main() -> Result<(), Box<dyn Error>> {
    for vocabulary in [Vocabulary::O200k, Vocabulary::Cl100k] {
        for version in [Version::V1_0, Version::V1_1] {
            let hops = Table::count(&vocabulary, &payroll_hops(version))?;
            println!("The four published payroll hops, AACP {version}\n\n{hops}");
            if vocabulary == Vocabulary::O200k {
                println!("{}\n", hops.beside_published());
            }
        }
        let workflows = workflow_samples(&Workflows::standard())?;
        println!(
            "The workflow encoders, English by explanation\n\n{}",
            Table::count(&vocabulary, &workflows)?
        );
        if let Some(path) = std::env::args().nth(1) {
            let rules = rule_samples(&RuleRegistry::from_file(path)?);
            println!("The rules, English by description\n\n{}", Table::count(&vocabulary, &rules)?);
        }
    }
    Ok(())
}
