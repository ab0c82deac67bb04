//! Any text as a file of rules and as a table of workflows: an error or something usable, never a panic.

#![no_main]

use aacp::{
    learn::{RuleRegistry, Scope},
    workflow::Workflows,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(registry) = RuleRegistry::from_json(text) {
        let _ = registry.find_all(text, Scope::default(), 3);
    }
    if let Ok(workflows) = Workflows::from_json(text) {
        for workflow in workflows.iter() {
            for spec in workflow.calls() {
                let Ok(mut call) = workflows.call(workflow.name(), spec.name()) else { continue };
                for name in call.spec().required() {
                    call = call.arg(name.as_str(), "a|b");
                }
                let _ = call.packets();
            }
        }
    }
});
