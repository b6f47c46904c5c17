//! `field_masks` of a host call: which fields of an object the guest gets.

use std::collections::BTreeMap;

use serde_json::Value;

/// A tree of field names; a leaf keeps everything below it.
#[derive(Default)]
pub(super) struct FieldMask(BTreeMap<String, FieldMask>);

impl FieldMask {
    /// Parses dotted paths such as `spec.containers.image`.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = &'a String>) -> Self {
        let mut root = Self::default();
        for path in paths {
            path.split('.').fold(&mut root, |node, name| node.0.entry(name.to_owned()).or_default());
        }
        root
    }

    /// Removes what the mask does not name; a list is transparent, a mask without paths removes nothing.
    pub(super) fn prune(&self, value: &mut Value) {
        match value {
            _ if self.0.is_empty() => {}
            Value::Object(fields) => fields.retain(|name, value| {
                let kept = self.0.get(name);
                kept.inspect(|mask| mask.prune(value)).is_some()
            }),
            Value::Array(items) => items.iter_mut().for_each(|item| self.prune(item)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pruned(paths: &[&str], mut value: Value) -> Value {
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        FieldMask::new(&paths).prune(&mut value);
        value
    }

    #[test]
    fn only_named_fields_stay_in_objects_and_in_every_item_of_a_list() {
        let object =
            json!({"spec": {"containers": [{"image": "a", "name": "b"}, {"image": "c"}], "x": 1}, "data": {"k": 1}});
        let expected = json!({"spec": {"containers": [{"image": "a"}, {"image": "c"}]}, "data": {"k": 1}});
        assert_eq!(pruned(&["spec.containers.image", "data"], object), expected);
    }

    #[test]
    fn an_empty_mask_keeps_everything() {
        assert_eq!(pruned(&[], json!({"data": {"k": 1}})), json!({"data": {"k": 1}}));
    }

    #[test]
    fn a_path_below_a_scalar_keeps_the_scalar() {
        assert_eq!(pruned(&["data.k.x"], json!({"data": {"k": 1, "l": 2}})), json!({"data": {"k": 1}}));
    }
}
