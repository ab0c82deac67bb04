//! What a namespace may hold: data, but nothing that leads back to a namespace.
//!
//! Values of a template never change, but for the attributes of a `namespace()`. One that came to hold itself, be it by way
//! of other values, would be written out for ever, on a stack that ends. So what is put into a namespace is copied where it is
//! not plain data already: another namespace, or a view of one, becomes the dictionary or list that it is at this moment. In
//! Python it would stay that namespace; here nothing can be set in the copy, nor seen of what is set in the first later. The
//! groups of `groupby` become pairs. No published template is known to put either into a namespace.

use std::{collections::BTreeMap, sync::Arc};

use minijinja::{
    Environment, Error, ErrorKind, State, Value, functions,
    value::{Enumerator, Kwargs, Object, ObjectRepr, ValueKind},
};

use super::{
    budget::{self, DEEPEST},
    rewrite::HELD,
};

/// Values that are looked at for one fuel: a template's own steps take longer.
const VALUES_PER_FUEL: usize = 8;

/// What a copied value takes at most, if it holds nothing.
const BYTES_PER_COPY: usize = 256;

/// Has namespaces made of what they may hold, and adds the filter for what is put into them.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter(HELD, |state: &State<'_, '_>, value: &Value| held(state, value));
    environment.add_function(
        "namespace",
        |state: &mut State<'_, '_>, first: Option<Value>, named: Kwargs| {
            let defaults = held(state, &functions::dict(first, named)?)?;
            Value::from_function(functions::namespace).call(state, &[defaults])
        },
    );
}

/// `value`, or its copy where it is not plain data.
///
/// # Errors
/// When the fuel runs out, or it is nested deeper than [`DEEPEST`].
fn held(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    Walk { state, values: 0 }.copy(value, 0)
}

/// Goes through a value, and pays for it.
struct Walk<'a> {
    state: &'a State<'a, 'a>,
    values: usize,
}

impl Walk<'_> {
    fn is_plain(&mut self, value: &Value, depth: usize) -> Result<bool, Error> {
        self.pay(depth)?;
        let Some(object) = value.as_object() else { return Ok(true) };
        match value.kind() {
            ValueKind::Seq => {
                for item in value.try_iter()? {
                    if !self.is_plain(&item, depth + 1)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            ValueKind::Map if is_dictionary(object.type_name()) => {
                for key in value.try_iter()? {
                    if !self.is_plain(&key, depth + 1)?
                        || !self.is_plain(&value.get_item(&key)?, depth + 1)?
                    {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            // A macro is a function, which minijinja shows as a map; it is written out by its name.
            ValueKind::Map => Ok(last_name(object.type_name()) == "Macro"),
            ValueKind::Iterable => Ok(false),
            // What is no data: nothing in it is ever written out.
            _ => Ok(true),
        }
    }

    fn copy(&mut self, value: &Value, depth: usize) -> Result<Value, Error> {
        budget::pay(self.state, BYTES_PER_COPY)?;
        self.pay(depth)?;
        // A tuple stays one where it can, and what is large stays one value.
        if self.is_plain(value, depth)? {
            return Ok(value.clone());
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                let mut items = Vec::new();
                for item in value.try_iter()? {
                    items.push(self.copy(&item, depth + 1)?);
                }
                Ok(items.into())
            }
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    pairs.push((self.copy(&key, depth + 1)?, self.copy(&item, depth + 1)?));
                }
                dictionary(pairs)
            }
            _ => Ok(value.clone()),
        }
    }

    fn pay(&mut self, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(ErrorKind::OutOfFuel.into());
        }
        self.values += 1;
        if self.values.is_multiple_of(VALUES_PER_FUEL) { budget::pay(self.state, 0) } else { Ok(()) }
    }
}

/// Whether it is minijinja's own type for dictionaries. One that is taken for another is copied, which does no harm.
fn is_dictionary(type_name: &str) -> bool {
    matches!(last_name(type_name), "IndexMap" | "BTreeMap")
}

/// Of a type's full name, without what it is generic over.
fn last_name(type_name: &str) -> &str {
    let generic = type_name.split('<').next().unwrap_or_default();
    generic.rsplit("::").next().unwrap_or_default()
}

fn dictionary(pairs: Vec<(Value, Value)>) -> Result<Value, Error> {
    let keys = pairs.iter().map(|(key, _)| key.clone()).collect();
    let pairs = Pairs { keys, values: pairs.into_iter().collect() };
    functions::dict(Some(Value::from_object(pairs)), Kwargs::from_iter::<[(String, Value); 0]>([]))
}

/// What [`functions::dict`] copies from: minijinja has no other way to a dictionary in a given order.
#[derive(Debug)]
struct Pairs {
    keys: Vec<Value>,
    values: BTreeMap<Value, Value>,
}

impl Object for Pairs {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.values.get(key).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.keys.clone())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;

    use super::*;

    fn environment() -> Environment<'static> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(100_000));
        add(&mut environment);
        environment
    }

    fn value_of(expression: &str) -> Value {
        let environment = environment();
        environment.compile_expression(expression).unwrap().eval(()).unwrap()
    }

    fn kept(value: &Value) -> Value {
        let environment = environment();
        let hold = environment.compile_expression("value|avp_held").unwrap();
        hold.eval(BTreeMap::from([("value", value.clone())])).unwrap()
    }

    #[test]
    fn plain_data_is_held_as_it_is() {
        let json = serde_json::json!({"b": [1, {"c": null}], "a": "x"});
        for value in [
            Value::from(Serde(&json)),
            value_of("[1, 'a', none, [true, {'k': (1, 2)}]]"),
            value_of("{'b': 1, 'a': [2]}"),
            value_of("dict(b=1)"),
            value_of("1"),
            value_of("range"),
        ] {
            assert!(minijinja::tests::is_sameas(&kept(&value), &value), "{value}");
        }
    }

    #[test]
    fn namespaces_and_views_of_them_are_copied_in_their_order() {
        for (held, copy) in [
            ("namespace(b=1, a=[2])", "{'a': [2], 'b': 1}"),
            ("[namespace(a=namespace(b=1))]", "[{'a': {'b': 1}}]"),
            ("{'z': 1, 'k': namespace(b=1)}", "{'z': 1, 'k': {'b': 1}}"),
            ("namespace(b=1)|items", "[('b', 1)]"),
            ("[namespace(b=1)|items]", "[[('b', 1)]]"),
            ("namespace(b=1)|chain({'c': 2})", "{'b': 1, 'c': 2}"),
            ("[1, 2, 3][1:]", "[2, 3]"),
            ("namespace(a=namespace(b=[1][:]))", "{'a': {'b': [1]}}"),
        ] {
            let copied = kept(&value_of(held));
            let expected = value_of(copy);
            assert_eq!(copied.to_string(), expected.to_string(), "{held}");
            assert!(minijinja::tests::is_sameas(&kept(&copied), &copied), "{held}");
        }
    }
}
