//! Names whose values are secrets.

/// The last letters of such a name, small, without `-`, `_` and `.`.
///
/// `auth` alone is not one (`--auth=ldap`), nor is `key` (`--tls-key=/etc/tls.key`): see
/// [`is_shouted_key`].
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

/// Names that end like those and mean something else.
const HARMLESS: [&[u8]; 4] = [b"bypass", b"compass", b"trespass", b"oldpwd"];

/// Words before such a name that make it a switch: `--no-password`, `--ask-pass`.
const SWITCHES: [&[u8]; 3] = [b"no", b"ask", b"prompt"];

/// How much of a name's end is looked at.
const NAME_MAX: usize = 64;

/// Whether the value of this name is a secret: `--db-password`, `AWS_SECRET_ACCESS_KEY`,
/// `authToken`.
pub(super) fn is_secret(name: &[u8]) -> bool {
    let name = &name[name.len().saturating_sub(NAME_MAX)..];
    let mut letters = [0; NAME_MAX];
    let mut length = 0;
    for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        letters[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    let letters = &letters[..length];
    // `PWD` is the shell's own: the working directory.
    if name == b"PWD" || HARMLESS.iter().any(|harmless| letters.ends_with(harmless)) {
        return false;
    }
    if name.starts_with(b"--") && SWITCHES.iter().any(|switch| letters.starts_with(switch)) {
        return false;
    }
    SECRET.iter().any(|secret| letters.ends_with(secret))
        || is_shouted_key(name)
        || has_secret(letters)
}

/// `STRIPE_KEY=`: the habit of environments. `--tls-key=` is a file.
fn is_shouted_key(name: &[u8]) -> bool {
    let shouted =
        name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
    shouted && name.ends_with(b"_KEY") && !name.ends_with(b"PUBLIC_KEY")
}

/// `CLIENT_SECRET_V2`: the word counts anywhere, unless the value is a place.
fn has_secret(letters: &[u8]) -> bool {
    let place = [&b"file"[..], b"path", b"name", b"dir", b"ref"]
        .iter()
        .any(|place| letters.ends_with(place));
    !place && letters.windows(6).any(|window| window == b"secret")
}
