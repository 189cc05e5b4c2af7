//! Recognises the names of secrets.

/// The endings of names of secrets, in lower case and without `-`, `_` and `.`.
///
/// `auth` is not in the list because of `--auth=ldap`, and `key` is not because of
/// `--tls-key=/etc/tls.key`; for keys see [`is_key_variable`].
const SECRET: [&[u8]; 19] = [
    b"password",
    b"passwd",
    b"passphrase",
    b"passcode",
    b"pwd",
    b"pass",
    b"secret",
    b"secrets",
    b"token",
    b"apikey",
    b"accesskey",
    b"secretkey",
    b"privatekey",
    b"encryptionkey",
    b"signingkey",
    b"masterkey",
    b"accountkey",
    b"credential",
    b"credentials",
];

/// Endings of names that end like a secret's name but mean something else.
const HARMLESS: [&[u8]; 4] = [b"bypass", b"compass", b"trespass", b"oldpwd"];

/// Beginnings that make an option a switch without a value: `--no-password`, `--ask-pass`.
const SWITCHES: [&[u8]; 3] = [b"no", b"ask", b"prompt"];

/// How many bytes at the end of a name are examined. Only the ending counts, and a fixed buffer
/// needs no allocation.
const NAME_MAX: usize = 64;

/// Whether the value of this name is a secret, as for `--db-password`, `AWS_SECRET_ACCESS_KEY` and
/// `authToken`.
pub(super) fn is_secret(name: &[u8]) -> bool {
    let name = &name[name.len().saturating_sub(NAME_MAX)..];
    let mut buffer = [0; NAME_MAX];
    let mut length = 0;
    for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        buffer[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    let normalized = &buffer[..length];
    // The shell's `PWD` is the working directory, although `pwd` is an ending of secrets.
    if name == b"PWD" || HARMLESS.iter().any(|harmless| normalized.ends_with(harmless)) {
        return false;
    }
    // This applies only to names with `--`: a variable such as `NO_PASSWORD=X` still has a value.
    if name.starts_with(b"--") && SWITCHES.iter().any(|switch| normalized.starts_with(switch)) {
        return false;
    }
    SECRET.iter().any(|secret| normalized.ends_with(secret))
        || is_key_variable(name)
        || has_secret(normalized)
}

/// Whether the name is an environment variable for a key, such as `STRIPE_KEY`. An option such as
/// `--tls-key=` usually names a file instead.
fn is_key_variable(name: &[u8]) -> bool {
    let is_upper_case =
        name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
    // Public keys are in upper case too, but not secret.
    is_upper_case && name.ends_with(b"_KEY") && !name.ends_with(b"PUBLIC_KEY")
}

/// Whether the name contains `secret` anywhere, as in `CLIENT_SECRET_V2`, and is not the name of a
/// location, as in `--secret-file`.
fn has_secret(normalized: &[u8]) -> bool {
    let is_location = [&b"file"[..], b"path", b"name", b"dir", b"ref"]
        .iter()
        .any(|ending| normalized.ends_with(ending));
    !is_location && normalized.windows(6).any(|window| window == b"secret")
}
