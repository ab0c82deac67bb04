//! What a template may spend where minijinja's fuel does not count, or counts when it is too late.
//!
//! Fuel pays for each step and each byte a step has made. A few hundred steps are enough, though, for a list that holds a
//! list twice, forty deep, or for a method whose result is larger than any memory. So values are walked, and sizes computed,
//! with fuel paid on the way, before they are written out, compared or made.
//!
//! minijinja lets no one step in before its operators, which are led here by a change of the source (see `rewrite`). Left to
//! the time limit alone is what compares or hashes a list that holds itself many times, and a loop or a `with` that takes a
//! long list apart into names: the caller gets its answer, but the thread left behind goes on for a while, and the latter
//! takes memory meanwhile.

use minijinja::{
    Environment, Error, ErrorKind, State, Value, filters, tests,
    value::{Rest, ValueKind, ValueOrKwargs},
};
use minijinja_contrib::pycompat;

use super::rewrite::{COUNTED, LISTED, PAID, WRITERS};

/// minijinja's price: one fuel buys this many bytes of text.
const BYTES_PER_FUEL: usize = 64;

/// minijinja's size of an item in a list.
const BYTES_PER_ITEM: usize = 32;

/// Deeper than any schema, and far from the end of the stack.
pub(super) const DEEPEST: usize = 128;

/// Pays for one step that makes `bytes` of text.
pub(super) fn pay(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(1 + (bytes / BYTES_PER_FUEL) as u64)
}

/// Pays for each value inside a list or map, as often as it is found there. Text itself was paid for when it was made.
///
/// # Errors
/// When the fuel runs out, or the value is nested deeper than [`DEEPEST`].
pub(super) fn pay_for_items(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.as_object().is_some() { walk(state, value, 0) } else { Ok(()) }
}

fn walk(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
    pay(state, value.as_str().map_or(0, str::len))?;
    if depth > DEEPEST {
        return Err(ErrorKind::OutOfFuel.into());
    }
    match value.kind() {
        ValueKind::Map => {
            for key in value.try_iter()? {
                walk(state, &key, depth + 1)?;
                walk(state, &value.get_item(&key)?, depth + 1)?;
            }
        }
        // An iterator of unknown length is printed without its items, and may give them only once.
        ValueKind::Seq | ValueKind::Iterable if value.len().is_some() => {
            for item in value.try_iter()? {
                walk(state, &item, depth + 1)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Replaces what writes out or compares what is inside a value, by what pays for it first.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter(PAID, |state: &State<'_, '_>, value: Value| {
        pay_for_items(state, &value)?;
        // Written out on the spot: what a namespace holds may be another by the time it is joined.
        Ok::<_, Error>(if value.as_object().is_some() { value.to_string().into() } else { value })
    });
    environment.add_filter(COUNTED, |state: &State<'_, '_>, value: Value| {
        pay_for_items(state, &value)?;
        Ok::<_, Error>(value)
    });
    environment.add_filter(LISTED, |state: &State<'_, '_>, value: Value| {
        if value.as_object().is_some() {
            pay(state, value.len().unwrap_or(0).saturating_mul(BYTES_PER_ITEM))?;
        }
        Ok::<_, Error>(value)
    });
    for (name, paying) in WRITERS {
        environment.add_filter(paying, move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            arguments.iter().try_for_each(|argument| pay_for_items(state, argument))?;
            state.apply_filter(name, &arguments)
        });
    }
    for (name, filter) in [
        ("capitalize", Value::from_function(filters::capitalize)),
        ("e", Value::from_function(filters::escape)),
        ("escape", Value::from_function(filters::escape)),
        ("format", Value::from_function(filters::format)),
        ("join", Value::from_function(filters::join)),
        ("lines", Value::from_function(filters::lines)),
        ("lower", Value::from_function(filters::lower)),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
        ("pprint", Value::from_function(filters::pprint)),
        ("safe", Value::from_function(filters::safe)),
        ("sort", Value::from_function(filters::sort)),
        ("split", Value::from_function(filters::split)),
        ("string", Value::from_function(filters::string)),
        ("sum", Value::from_function(filters::sum)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("unique", Value::from_function(filters::unique)),
        ("upper", Value::from_function(filters::upper)),
    ] {
        add_paying(environment, name, filter, |arguments| arguments);
    }
    // These pass items on, to another filter too; they write out what names an attribute, a filter or a test.
    for (name, filter) in [
        ("map", Value::from_function(filters::map)),
        ("reject", Value::from_function(filters::reject)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("select", Value::from_function(filters::select)),
        ("selectattr", Value::from_function(filters::selectattr)),
    ] {
        add_paying(environment, name, filter, |arguments| {
            let named = arguments.get(1..).unwrap_or_default();
            let writes = |name: &str| WRITERS.iter().any(|(writer, _)| *writer == name);
            if named.first().and_then(Value::as_str).is_some_and(writes) { arguments } else { named }
        });
    }
    for (name, test) in [
        ("endingwith", Value::from_function(tests::is_endingwith)),
        ("in", Value::from_function(tests::is_in)),
        ("startingwith", Value::from_function(tests::is_startingwith)),
    ] {
        environment.add_test(name, move |state: &mut State<'_, '_>, value: Value, other: Value| {
            [&value, &other].into_iter().try_for_each(|argument| pay_for_items(state, argument))?;
            test.call(state, &[value, other]).map(|holds| holds.is_true())
        });
    }
    // It writes out all there is, and no one else's Jinja has it.
    environment.remove_global("debug");
}

/// Adds a filter that pays for some of what it is given, and then does as `filter` does.
fn add_paying(
    environment: &mut Environment<'_>,
    name: &'static str,
    filter: Value,
    paid: fn(&[Value]) -> &[Value],
) {
    environment.add_filter(name, move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
        let arguments = arguments.into_values();
        paid(&arguments).iter().try_for_each(|argument| pay_for_items(state, argument))?;
        filter.call(state, &arguments)
    });
}

/// Python's methods of strings, lists and maps, with what they make paid for first.
pub(super) fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    for argument in arguments {
        pay_for_items(state, argument)?;
    }
    let argument = |at: usize| arguments.get(at).and_then(Value::as_str);
    match (value.as_str(), method) {
        (Some(text), "replace") => {
            if let (Some(old), Some(new)) = (argument(0), argument(1)) {
                pay(state, text.matches(old).count().saturating_mul(new.len()))?;
            }
        }
        (Some(separator), "join") => {
            let items = arguments.first().and_then(Value::len).unwrap_or(0);
            pay(state, items.saturating_mul(separator.len()))?;
        }
        (Some(text), "split") => {
            let parts =
                argument(0).map_or_else(|| text.split_whitespace().count(), |at| text.matches(at).count());
            pay(state, parts.saturating_mul(BYTES_PER_ITEM))?;
        }
        (Some(text), "splitlines") => pay(state, text.lines().count().saturating_mul(BYTES_PER_ITEM))?,
        (Some(text), "format") => {
            // Each number in a format may be the width of a field, or the place of an argument.
            for digits in text.split(|at: char| !at.is_ascii_digit()).filter(|digits| !digits.is_empty()) {
                pay(state, digits.parse().unwrap_or(usize::MAX))?;
            }
            let fields = text.matches('{').count();
            let longest = arguments.iter().filter_map(Value::as_str).map(str::len).max().unwrap_or(0);
            pay(state, fields.saturating_mul(longest))?;
        }
        // Comparing its items with the argument walks them.
        (None, "count") => pay_for_items(state, value)?,
        _ => {}
    }
    pycompat::unknown_method_callback(state, value, method, arguments)
}
