//! What the configuration of a container says about it: names, image, annotations.

use std::collections::HashMap;

/// The longest name in Kubernetes, in bytes: that of a pod (a DNS subdomain, RFC 1123). The names
/// of images and of other clients are cut there, too.
const NAME_BYTES_MAX: usize = 253;
/// The most annotations of a container that are reported, and the bytes of their keys and values,
/// each and together. Anyone who writes the configuration of a container decides how long its
/// annotations are, and they are in the memory of the shim for as long as the container lives.
const ANNOTATIONS_MAX: usize = 32;
const ANNOTATION_BYTES_MAX: usize = 512;
const ANNOTATIONS_BYTES_MAX: usize = 4096;

/// The prefixes of annotations that are not reported: those of containerd's CRI plugin are names
/// and facts that are known otherwise, those of this project are settings, and those of nerdctl
/// repeat its whole command line. runc's are for runc.
const PREFIXES_LEFT_OUT: [&str; 5] =
    ["io.kubernetes.cri.", "io.lookout.", "nerdctl/", "io.containerd.", "org.opencontainers.runc"];

/// What the configuration of a container says about it, which does not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// The pod and container names of Kubernetes; `None` outside Kubernetes.
    pub kubernetes: Option<Kubernetes>,
    /// The name that the client gave to the container, if it wrote one into the configuration:
    /// `nerdctl/name`. Else empty.
    pub name: String,
    /// The name of the image: `io.kubernetes.cri.image-name`. Empty if the configuration has none:
    /// only containerd's CRI plugin writes it.
    pub image: String,
    /// The other annotations, sorted by key, without those that are too long.
    pub annotations: Vec<Annotation>,
}

/// An annotation of a container: a key and a value of any form.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as the configuration has them")]
pub struct Annotation {
    pub key: String,
    pub value: String,
}

/// The names that Kubernetes has for a container, from the annotations of containerd's CRI plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// The pod's namespace: `io.kubernetes.cri.sandbox-namespace`.
    pub namespace: String,
    /// The pod's name: `io.kubernetes.cri.sandbox-name`.
    pub pod_name: String,
    /// The pod's uid: `io.kubernetes.cri.sandbox-uid`.
    pub pod_uid: String,
    /// The container's name in its pod: `io.kubernetes.cri.container-name`; empty for the sandbox
    /// itself.
    pub container_name: String,
}

impl Description {
    /// Reads the annotations of a container. A longer text than a name can be is cut.
    #[must_use]
    pub fn from_annotations(annotations: &HashMap<String, String>) -> Self {
        let of = |key: &str| {
            let text = annotations.get(key).map_or("", String::as_str);
            text[..text.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
        };
        let of_cri = |name: &str| of(&format!("io.kubernetes.cri.{name}"));
        let names = Kubernetes {
            namespace: of_cri("sandbox-namespace"),
            pod_name: of_cri("sandbox-name"),
            pod_uid: of_cri("sandbox-uid"),
            container_name: of_cri("container-name"),
        };
        Self {
            kubernetes: (names != Kubernetes::default()).then_some(names),
            name: of("nerdctl/name"),
            image: of_cri("image-name"),
            annotations: reported(annotations),
        }
    }

    /// Whether the configuration says nothing about the container.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The bytes of all its texts.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let names = self.kubernetes.as_ref().map_or(0, |names| {
            let Kubernetes { namespace, pod_name, pod_uid, container_name } = names;
            namespace.len() + pod_name.len() + pod_uid.len() + container_name.len()
        });
        let annotations: usize =
            self.annotations.iter().map(|one| size_of_val(one) + one.bytes()).sum();
        names + self.name.len() + self.image.len() + annotations
    }
}

impl Annotation {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// The annotations that are reported: the first by key, within the bounds.
fn reported(annotations: &HashMap<String, String>) -> Vec<Annotation> {
    let is_reported = |key: &str| !PREFIXES_LEFT_OUT.iter().any(|prefix| key.starts_with(prefix));
    let mut all: Vec<(&String, &String)> = annotations
        .iter()
        .filter(|(key, value)| is_reported(key) && key.len() + value.len() <= ANNOTATION_BYTES_MAX)
        .collect();
    all.sort_unstable();
    let mut bytes = 0;
    all.into_iter()
        .take(ANNOTATIONS_MAX)
        .map(|(key, value)| Annotation { key: key.clone(), value: value.clone() })
        .take_while(|one| {
            bytes += one.bytes();
            bytes <= ANNOTATIONS_BYTES_MAX
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(annotations: &[(&str, &str)]) -> Description {
        let owned = annotations.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        Description::from_annotations(&owned.collect())
    }

    /// Check that a name which no name in Kubernetes can be is cut, at a character.
    #[test]
    fn names_of_kubernetes_are_cut() {
        let long = "ä".repeat(35_000);
        let annotations = [
            ("io.kubernetes.cri.sandbox-name", long.as_str()),
            ("io.kubernetes.cri.sandbox-uid", "7d"),
            ("io.kubernetes.cri.image-name", &long),
        ];
        let Description { kubernetes, image, .. } = described(&annotations);
        let names = kubernetes.expect("names");
        assert_eq!((names.pod_name, names.pod_uid.as_str()), ("ä".repeat(126), "7d"));
        assert_eq!(image, "ä".repeat(126));
    }

    /// Check that the annotations of a person are reported by key, and those of programs are not.
    #[test]
    fn annotations_of_programs_are_left_out() {
        let found = described(&[
            ("team", "web"),
            ("app", "shop"),
            ("io.kubernetes.cri.container-type", "container"),
            ("io.lookout.observe", "true"),
            ("io.containerd.runc.v2.group", "pod"),
            ("nerdctl/name", "web-1"),
            ("nerdctl/networks", "[]"),
        ]);
        let keys: Vec<&str> = found.annotations.iter().map(|one| one.key.as_str()).collect();
        assert_eq!((keys, found.name.as_str()), (vec!["app", "team"], "web-1"));
        assert!(described(&[("io.lookout.observe", "true")]).is_empty());
    }

    /// Check that neither many, nor long, nor together too long annotations are kept.
    #[test]
    fn annotations_are_bounded() {
        let many: HashMap<String, String> =
            (0..1000).map(|number| (format!("key-{number:04}"), "x".into())).collect();
        assert_eq!(Description::from_annotations(&many).annotations.len(), ANNOTATIONS_MAX);
        let long: HashMap<String, String> =
            (0..1000).map(|number| (format!("key-{number:04}"), "x".repeat(500))).collect();
        let kept = Description::from_annotations(&long);
        assert_eq!(kept.annotations.len(), ANNOTATIONS_BYTES_MAX / 508);
        assert!(kept.text_bytes() < ANNOTATIONS_BYTES_MAX + 2048, "{}", kept.text_bytes());
        let found = described(&[("a", &"x".repeat(ANNOTATION_BYTES_MAX)), ("b", "1")]);
        assert_eq!(found.annotations, [Annotation { key: "b".into(), value: "1".into() }]);
    }
}
