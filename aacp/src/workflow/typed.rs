//! The published workflows as Rust methods.

use super::{Call, Value, WorkflowError, Workflows};

/// Declares a struct for each workflow, and a method for each call with its required arguments.
macro_rules! typed {
    ($($(#[$about:meta])* $workflow:ident $name:literal { $($call:ident($($argument:ident),+),)* })*) => {
        $(
            $(#[$about])*
            ///
            /// Each method returns a [`Call`] with its required arguments; add optional ones with [`Call::arg`].
            #[derive(Clone, Copy, Debug)]
            pub struct $workflow<'w>(&'w Workflows);

            impl<'w> $workflow<'w> {
                /// The calls of this workflow in `workflows`.
                pub fn new(workflows: &'w Workflows) -> Self {
                    Self(workflows)
                }

                $(
                    #[doc = concat!("`", stringify!($call), "` of the workflow `", $name, "`.")]
                    ///
                    /// # Errors
                    /// If the table does not have the call. The standard table has it.
                    pub fn $call(self, $($argument: impl Into<Value>),+) -> Result<Call<'w>, WorkflowError> {
                        Ok(self.0.call($name, stringify!($call))?$(.arg(stringify!($argument), $argument))+)
                    }
                )*
            }
        )*

        #[cfg(test)]
        const TYPED: &[(&str, &str, &[&str])] =
            &[$($(($name, stringify!($call), &[$(stringify!($argument)),+]),)*)*];
    };
}

typed! {
    /// A monthly payroll run.
    ///
    /// ```
    /// use aacp::workflow::{Payroll, Workflows};
    /// let workflows = Workflows::standard();
    /// let packets = Payroll::new(&workflows).full_run("2024-08", "2024-07")?.packets()?;
    /// assert_eq!(packets.len(), 6);
    /// # Ok::<(), aacp::workflow::WorkflowError>(())
    /// ```
    Payroll "payroll" {
        fetch_employees(period),
        fetch_budgets(period),
        merge_and_calculate(period),
        generate_report(period, prev_period),
        log_run(period),
        send_report(period),
        full_run(period, prev_period),
    }
    /// Accounts and access for a new employee.
    InformationTechnology "it" {
        create_ad_account(username, email, department),
        provision_email(email),
        provision_vpn(username),
        provision_crm(username),
        provision_badge(username),
        log_provisioning(username),
        full_onboarding(username, email, department),
    }
    /// A supplier's invoice.
    Invoice "invoice" {
        process_invoice(supplier, amount, currency, purchase_order),
        schedule_payment(supplier, amount, currency),
        log_invoice(invoice_ref, supplier, amount, currency),
    }
    /// The review of a contract.
    Contract "contract" {
        request_review(contract_type, party),
        flag_clause(contract_type, party, clause_ref, issue),
        log_review(contract_type, party, risk, recommendation),
    }
    /// The qualification of a lead.
    Sales "sales" {
        fetch_lead(lead_id),
        score_lead(lead_id),
        route_lead(lead_id),
        log_qualification(lead_id),
        notify_rep(lead_id),
        full_qualification(lead_id),
    }
    /// Joiners, movers and leavers.
    JoinerMoverLeaver "jml" {
        fetch_new_hire(employee_id),
        create_account(username, dept),
        assign_licences(username),
        configure_access(username),
        send_welcome(username),
        log_provisioning(username),
        full_joiner(employee_id, username, dept),
        update_access(username, new_role),
        revoke_access(username),
        log_offboarding(username),
    }
    /// The resolution of a complaint.
    CustomerService "customer_service" {
        fetch_customer(customer_id),
        triage_complaint(ticket_id),
        resolve_complaint(ticket_id),
        send_resolution(ticket_id, customer_id),
        log_resolution(ticket_id),
        full_resolution(customer_id, ticket_id),
    }
    /// The month-end close.
    MonthEnd "month_end" {
        fetch_trial_balance(period),
        reconcile_bank(period),
        post_accruals(period),
        variance_analysis(period, prev_period),
        generate_management_accounts(period),
        log_close_certification(period),
        full_close(period, prev_period),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn the_methods_and_the_table_have_the_same_calls_and_arguments() {
        let workflows = Workflows::standard();
        let mut untyped = 0;
        for workflow in workflows.iter().filter(|workflow| workflow.name() != "general") {
            for call in workflow.calls() {
                let typed = TYPED.iter().find(|typed| (typed.0, typed.1) == (workflow.name(), call.name()));
                match typed {
                    Some((.., arguments)) => {
                        assert_eq!(*arguments, call.required().iter().collect::<Vec<_>>())
                    }
                    None => untyped += 1,
                }
            }
        }
        assert_eq!(untyped, 0);
        assert!(TYPED.iter().all(|(workflow, call, _)| workflows.call(workflow, call).is_ok()));
    }
}
