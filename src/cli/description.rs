//! Chooses containers by what their configurations say about them.

use std::str::FromStr;

use crate::api::Container;

/// An annotation that a container has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    key: String,
    /// `None` for any value.
    value: Option<String>,
}

impl Label {
    pub(super) fn is_of(&self, container: &Container) -> bool {
        container.annotations.iter().any(|one| {
            one.key == self.key && self.value.as_ref().is_none_or(|value| *value == one.value)
        })
    }
}

impl FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        if key.is_empty() {
            return Err("the key is empty: KEY or KEY=VALUE is expected");
        }
        Ok(Self { key: key.to_owned(), value })
    }
}

/// Whether a text names an image: its complete name, or the name without the tag, the digest, or
/// the first parts of the path.
pub(super) fn is_image(image: &str, wanted: &str) -> bool {
    let without_digest = image.split_once('@').map_or(image, |(name, _)| name);
    let tag_at = without_digest.rfind(':').filter(|at| !without_digest[*at..].contains('/'));
    let without_tag = &without_digest[..tag_at.unwrap_or(without_digest.len())];
    !wanted.is_empty()
        && [image, without_digest, without_tag].iter().any(|name| {
            let rest = name.strip_suffix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Annotation;

    /// Check the names of an image, with and without registry, tag and digest.
    #[test]
    fn an_image_has_several_names() {
        let image = "localhost:5000/shop/web:1.2@sha256:5f3a";
        for wanted in [image, "localhost:5000/shop/web:1.2", "shop/web", "web", "web:1.2"] {
            assert!(is_image(image, wanted), "{wanted}");
        }
        for wanted in ["", "eb", "web:1", "shop", "5000/shop/web", "localhost", "/web"] {
            assert!(!is_image(image, wanted), "{wanted}");
        }
        assert!(is_image("localhost:5000/web", "web") && is_image("web", "web"));
        assert!(!is_image("", "web"));
    }

    /// Check that a label is a key, or a key and a value, which may have an equals sign.
    #[test]
    fn a_label_is_a_key_and_perhaps_a_value() {
        let annotation =
            Annotation { key: "app".into(), value: "a=b".into(), ..Default::default() };
        let container = Container { annotations: vec![annotation], ..Default::default() };
        let is_of = |text: &str| text.parse::<Label>().expect("a label").is_of(&container);
        assert!(is_of("app") && is_of("app=a=b"));
        assert!(!is_of("app=") && !is_of("app=a") && !is_of("ap"));
        assert!("".parse::<Label>().is_err() && "=x".parse::<Label>().is_err());
    }
}
