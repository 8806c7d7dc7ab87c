//! The positional parameters of a request.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Fault;

/// Parameters that are taken from the left.
#[derive(Debug, Clone)]
pub(crate) struct Params {
    values: std::vec::IntoIter<Value>,
    taken: usize,
}

impl Params {
    /// Reads the list of a request; none at all is an empty list.
    pub(crate) fn read(raw: Option<&str>) -> Result<Self, Fault> {
        let values: Option<Vec<Value>> = match raw {
            None => None,
            Some(raw) => serde_json::from_str(raw).map_err(|_| Fault::parameters("the parameters are not a list"))?,
        };
        Ok(Self { values: values.unwrap_or_default().into_iter(), taken: 0 })
    }

    /// The next parameter, which must be there.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        self.optional()?.ok_or_else(|| Fault::parameters(format!("parameter {} is missing", self.taken)))
    }

    /// The next parameter, if there is one and it is not null.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Fault> {
        self.taken += 1;
        match self.values.next() {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| Fault::parameters(format!("parameter {} is wrong: {error}", self.taken))),
        }
    }

    /// Refuses parameters that the method does not know, rather than ignore what they ask for.
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        match self.values.find(|value| !value.is_null()) {
            None => Ok(()),
            Some(_) => Err(Fault::parameters(format!("parameter {} is not supported", self.taken + 1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(json: &str) -> Params {
        Params::read(Some(json)).unwrap_or_else(|_| panic!("{json} is a list"))
    }

    #[test]
    fn absent_null_and_wrong_are_told_apart() {
        assert!(matches!(params("[]").optional::<u64>(), Ok(None)));
        assert!(matches!(params("[null]").optional::<u64>(), Ok(None)));
        assert!(matches!(params("[7]").optional::<u64>(), Ok(Some(7))));
        assert!(params("[\"x\"]").optional::<u64>().is_err());
        assert!(params("[]").next::<u64>().is_err());
        assert!(params("[1]").finish().is_err());
        assert!(params("[null]").finish().is_ok());
    }
}
