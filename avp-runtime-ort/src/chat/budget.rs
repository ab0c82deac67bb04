//! What a template may spend where minijinja's fuel does not count, or counts when it is too late.
//!
//! Fuel pays for each step and each byte a step has made. A few hundred steps are enough, though, for a list that holds a
//! list twice, forty deep, or for a method whose result is larger than any memory. So values are walked, and sizes computed,
//! with fuel paid on the way, before they are written out, compared or made.
//!
//! minijinja lets no one step in before its operators, nor before a filter such as `replace` turns a list into text. `~` on a
//! list that holds itself many times, or `+` of two long lists, is therefore bounded by the time limit alone: the caller gets
//! its answer, but the thread left behind goes on taking memory. `~` on a namespace that holds itself overflows the stack.

use minijinja::{
    Environment, Error, ErrorKind, State, Value, filters,
    value::{Kwargs, StringInput, ValueKind},
};
use minijinja_contrib::pycompat;

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

/// A filter that compares the items of a value.
type Comparing = fn(&State<'_, '_>, Value, Kwargs) -> Result<Value, Error>;

/// Replaces the filters that write out or compare what is inside a value, by ones that pay for it first.
pub(super) fn add_filters(environment: &mut Environment<'_>) {
    environment.add_filter("string", |state: &State<'_, '_>, value: &Value| {
        pay_for_items(state, value)?;
        filters::string(state, value)
    });
    environment.add_filter("pprint", |state: &State<'_, '_>, value: &Value| {
        pay_for_items(state, value)?;
        Ok::<_, Error>(filters::pprint(value))
    });
    environment.add_filter("join", join);
    environment
        .add_filter("upper", |state: &State<'_, '_>, value: &Value| text(state, value).map(filters::upper));
    environment
        .add_filter("lower", |state: &State<'_, '_>, value: &Value| text(state, value).map(filters::lower));
    environment.add_filter("capitalize", |state: &State<'_, '_>, value: &Value| {
        text(state, value).map(filters::capitalize)
    });
    let comparing: [(&str, Comparing); 4] =
        [("sort", filters::sort), ("unique", filters::unique), ("min", filters::min), ("max", filters::max)];
    for (name, filter) in comparing {
        environment.add_filter(name, move |state: &State<'_, '_>, value: Value, options: Kwargs| {
            pay_for_items(state, &value)?;
            filter(state, value, options)
        });
    }
}

fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    pay_for_items(state, value)?;
    filters::join(state, value, joiner, attribute, options)
}

fn text<'value>(state: &State<'_, '_>, value: &'value Value) -> Result<StringInput<'value>, Error> {
    pay_for_items(state, value)?;
    StringInput::new(state, value)
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
