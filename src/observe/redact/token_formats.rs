//! Secrets with a form of their own: tokens by prefix, alphabet and length, and private keys.
//!
//! The checksums that some tokens have are not checked: a token that was mistyped or cut still
//! shows most of a valid one.
//!
//! The forms are one read-only table without pointers, so that all shims share its pages.

/// The characters that may follow the prefix of a token.
#[derive(Debug, Clone, Copy)]
enum Alphabet {
    /// Letters and digits.
    Alphanumeric,
    /// Letters, digits, `_` and `-`.
    Word,
    /// The same and `.`, `+`, `/`, `=`, `~`.
    Base64,
    /// Letters, digits and `_ - .`, with at least two dots.
    Dotted,
    /// As `Word`, but the text must be random, because many names begin with the prefix.
    Random,
    Hexadecimal,
}

/// The form of one kind of token.
struct TokenForm {
    /// The first bytes of the token, filled up with zeros.
    prefix: [u8; PREFIX_MAX],
    alphabet: Alphabet,
    /// The least number of characters after the prefix.
    length_min: u8,
}

/// The longest prefix of a token, in bytes.
const PREFIX_MAX: usize = 16;

const fn token_form(prefix: &str, alphabet: Alphabet, length_min: u8) -> TokenForm {
    let (bytes, mut filled, mut at) = (prefix.as_bytes(), [0; PREFIX_MAX], 0);
    while at < bytes.len() {
        filled[at] = bytes[at];
        at += 1;
    }
    TokenForm { prefix: filled, alphabet, length_min }
}

use std::ops::Range;

use super::value;

use Alphabet::{Alphanumeric, Base64, Dotted, Hexadecimal, Random, Word};

/// The forms of all tokens, sorted by the first three bytes. The lengths are those of the issuers'
/// documentation, or a little less if an issuer has changed them.
#[rustfmt::skip]
static TOKEN_FORMS: [TokenForm; 100] = [
    token_form("AGE-SECRET-KEY-1", Alphanumeric, 40),
    token_form("AIza", Word, 30),
    token_form("AKIA", Alphanumeric, 12),
    token_form("ASIA", Alphanumeric, 12),
    token_form("ATATT3", Base64, 40),
    token_form("ATBB", Alphanumeric, 24),
    token_form("CFPAT-", Word, 20),
    token_form("EAAC", Alphanumeric, 40),
    token_form("GOCSPX-", Word, 16),
    token_form("NRAK-", Alphanumeric, 20),
    token_form("SG.", Base64, 20),
    token_form("SWMTKN-", Word, 12),
    token_form("aio_", Alphanumeric, 20),
    token_form("bkua_", Alphanumeric, 20),
    token_form("ccipat_", Word, 20),
    token_form("dapi", Hexadecimal, 32),
    token_form("dckr_pat_", Word, 16),
    token_form("dckr_oat_", Word, 16),
    token_form("ddapi_", Alphanumeric, 20),
    token_form("doo_v1_", Alphanumeric, 32),
    token_form("dop_v1_", Alphanumeric, 32),
    token_form("dor_v1_", Alphanumeric, 32),
    token_form("dp.pt.", Word, 20),
    token_form("dp.st.", Base64, 20),
    token_form("dt0c01.", Base64, 40),
    token_form("eyJ", Dotted, 10),
    token_form("figd_", Word, 20),
    token_form("fm1_", Base64, 20),
    token_form("fm2_", Base64, 20),
    token_form("gho_", Alphanumeric, 16),
    token_form("ghp_", Alphanumeric, 16),
    token_form("ghr_", Alphanumeric, 16),
    token_form("ghs_", Alphanumeric, 16),
    token_form("ghu_", Alphanumeric, 16),
    token_form("github_pat_", Word, 20),
    token_form("glagent-", Word, 16),
    token_form("glcbt-", Word, 16),
    token_form("glc_", Base64, 24),
    token_form("gldt-", Word, 16),
    token_form("glft-", Word, 16),
    token_form("glimt-", Word, 16),
    token_form("gloas-", Word, 16),
    token_form("glpat-", Word, 16),
    token_form("glptt-", Word, 16),
    token_form("glrt-", Word, 16),
    token_form("glsoat-", Word, 16),
    token_form("glsa_", Word, 24),
    token_form("gsk_", Alphanumeric, 30),
    token_form("hf_", Alphanumeric, 24),
    token_form("hvb.", Word, 16),
    token_form("hvr.", Word, 16),
    token_form("hvs.", Word, 16),
    token_form("key-", Hexadecimal, 32),
    token_form("lin_api_", Alphanumeric, 20),
    token_form("lsv2_", Word, 20),
    token_form("napi_", Alphanumeric, 30),
    token_form("nfp_", Alphanumeric, 30),
    token_form("npm_", Alphanumeric, 30),
    token_form("nvapi-", Word, 30),
    token_form("oy2", Random, 40),
    token_form("pat-", Random, 32),
    token_form("pplx-", Alphanumeric, 30),
    token_form("pscale_tkn_", Base64, 20),
    token_form("pscale_pw_", Base64, 20),
    token_form("pul-", Hexadecimal, 30),
    token_form("pypi-", Random, 16),
    token_form("r8_", Alphanumeric, 30),
    token_form("rdme_", Alphanumeric, 30),
    token_form("rk_live_", Alphanumeric, 16),
    token_form("rk_test_", Alphanumeric, 16),
    token_form("rnd_", Random, 20),
    token_form("rubygems_", Hexadecimal, 30),
    token_form("sbp_", Hexadecimal, 30),
    token_form("secret_", Random, 40),
    token_form("sgp_", Word, 30),
    token_form("sha256~", Word, 30),
    token_form("shpat_", Alphanumeric, 20),
    token_form("shpss_", Alphanumeric, 20),
    token_form("sk-", Random, 16),
    token_form("sk_live_", Alphanumeric, 16),
    token_form("sk_test_", Alphanumeric, 16),
    token_form("sntrys_", Base64, 30),
    token_form("sntryu_", Hexadecimal, 30),
    token_form("sqa_", Hexadecimal, 30),
    token_form("sqp_", Hexadecimal, 30),
    token_form("squ_", Hexadecimal, 30),
    token_form("tfp_", Word, 30),
    token_form("tskey-", Word, 16),
    token_form("whsec_", Base64, 20),
    token_form("xai-", Alphanumeric, 30),
    token_form("xapp-", Word, 8),
    token_form("xoxa-", Word, 8),
    token_form("xoxb-", Word, 8),
    token_form("xoxc-", Word, 8),
    token_form("xoxd-", Base64, 8),
    token_form("xoxe-", Word, 8),
    token_form("xoxp-", Word, 8),
    token_form("xoxr-", Word, 8),
    token_form("xoxs-", Word, 8),
    token_form("ya29.", Base64, 12),
];

/// For each first byte of a prefix, the possible second bytes: bit N is set if byte N can follow.
/// Most words begin no token, so for most words this check is the whole cost.
static FIRST_TWO_BYTES: [u128; 128] = {
    let mut pairs = [0; 128];
    let mut index = 0;
    // Iterators are not available in constants.
    while index < TOKEN_FORMS.len() {
        let prefix = &TOKEN_FORMS[index].prefix;
        pairs[prefix[0] as usize] |= 1 << prefix[1];
        index += 1;
    }
    pairs
};

/// The length of the token at the beginning of `rest`, in bytes; 0 if there is none. `truncated`
/// means that the end of `rest` may be missing, so a token may be shorter than its usual length.
pub(super) fn token_length(rest: &[u8], truncated: bool) -> usize {
    let &[first, second, third, ..] = rest else { return 0 };
    let pairs = FIRST_TWO_BYTES.get(usize::from(first)).copied().unwrap_or(0);
    if second >= 128 || pairs >> second & 1 == 0 {
        return 0;
    }
    let key = [first, second, third];
    let from = TOKEN_FORMS.partition_point(|form| form.prefix[..3] < key[..]);
    TOKEN_FORMS[from..]
        .iter()
        .take_while(|form| form.prefix[..3] == key[..])
        .find_map(|form| form.token_length(rest, truncated))
        .unwrap_or(0)
}

impl TokenForm {
    fn token_length(&self, rest: &[u8], truncated: bool) -> Option<usize> {
        let size = self.prefix.iter().position(|byte| *byte == 0).unwrap_or(PREFIX_MAX);
        let after = rest.strip_prefix(&self.prefix[..size])?;
        let fits = |byte: &u8| match self.alphabet {
            Alphanumeric => byte.is_ascii_alphanumeric(),
            Word | Random => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Base64 => byte.is_ascii_alphanumeric() || b"_-.+/=~".contains(byte),
            Dotted => byte.is_ascii_alphanumeric() || b"_-.".contains(byte),
            Hexadecimal => byte.is_ascii_hexdigit(),
        };
        let more = after.iter().take_while(|byte| fits(byte)).count();
        if truncated && more == after.len() {
            return Some(rest.len());
        }
        let is_token = more >= usize::from(self.length_min)
            && match self.alphabet {
                // A JSON Web Token has three parts; the first is the base64url of `{"`.
                Dotted => after[..more].iter().filter(|byte| **byte == b'.').count() >= 2,
                Random => value::is_random(&after[..more]),
                _ => true,
            };
        is_token.then_some(size + more)
    }
}

/// The secret of a PEM private key of which the first line begins with `bytes`: the text between
/// its first and its last line.
pub(super) fn private_key(bytes: &[u8]) -> Option<Range<usize>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    /// Enough for `ENCRYPTED PRIVATE KEY` and the like.
    const LABEL_MAX: usize = 48;
    let label = bytes.strip_prefix(BEGIN)?;
    let length = label.windows(5).take(LABEL_MAX).position(|window| window == b"-----")?;
    // Certificates and public keys have the same form.
    if !label[..length].ends_with(b"PRIVATE KEY") && !label[..length].ends_with(b"KEY BLOCK") {
        return None;
    }
    if label.starts_with(b"PGP PUBLIC") {
        return None;
    }
    let start = BEGIN.len() + length + 5;
    let rest = &bytes[start..];
    // Without an end line the key is truncated, and the rest of the text is secret.
    let end = rest.windows(8).position(|window| window == b"-----END").unwrap_or(rest.len());
    let is_space = |byte: &&u8| byte.is_ascii_whitespace() || byte.is_ascii_control();
    let spaces = rest[..end].iter().take_while(is_space).count();
    let after = rest[spaces..end].iter().rev().take_while(is_space).count();
    Some(start + spaces..start + end - after)
}

#[cfg(test)]
mod tests {
    use super::TOKEN_FORMS;

    /// Check that the table is sorted as the search in it needs.
    #[test]
    fn the_forms_are_sorted() {
        assert!(TOKEN_FORMS.is_sorted_by_key(|form| [
            form.prefix[0],
            form.prefix[1],
            form.prefix[2]
        ]));
    }
}
