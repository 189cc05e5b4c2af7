//! Secrets with a form of their own: tokens by prefix, alphabet and length, and private keys.
//!
//! The checksums that some tokens have are not checked: a token that somebody has typed wrongly, or
//! that was cut, still shows most of a true one.
//!
//! The forms are one read-only table without pointers, so that all shims share its pages.

/// What follows the prefix of a token.
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
    /// As `Word`, and random: the prefix alone is that of many names.
    Random,
    Hexadecimal,
}

struct Form {
    /// Filled up with zeros.
    prefix: [u8; PREFIX_MAX],
    alphabet: Alphabet,
    /// How many characters follow the prefix at least.
    least: u8,
}

const PREFIX_MAX: usize = 16;

const fn form(prefix: &str, alphabet: Alphabet, least: u8) -> Form {
    let (bytes, mut filled, mut at) = (prefix.as_bytes(), [0; PREFIX_MAX], 0);
    while at < bytes.len() {
        filled[at] = bytes[at];
        at += 1;
    }
    Form { prefix: filled, alphabet, least }
}

use std::ops::Range;

use super::value;

use Alphabet::{Alphanumeric, Base64, Dotted, Hexadecimal, Random, Word};

/// Sorted by the first three bytes. The lengths are those of the issuers' documentation, or a
/// little less where they have changed them.
#[rustfmt::skip]
static FORMS: [Form; 100] = [
    form("AGE-SECRET-KEY-1", Alphanumeric, 40),
    form("AIza", Word, 30),
    form("AKIA", Alphanumeric, 12),
    form("ASIA", Alphanumeric, 12),
    form("ATATT3", Base64, 40),
    form("ATBB", Alphanumeric, 24),
    form("CFPAT-", Word, 20),
    form("EAAC", Alphanumeric, 40),
    form("GOCSPX-", Word, 16),
    form("NRAK-", Alphanumeric, 20),
    form("SG.", Base64, 20),
    form("SWMTKN-", Word, 12),
    form("aio_", Alphanumeric, 20),
    form("bkua_", Alphanumeric, 20),
    form("ccipat_", Word, 20),
    form("dapi", Hexadecimal, 32),
    form("dckr_pat_", Word, 16),
    form("dckr_oat_", Word, 16),
    form("ddapi_", Alphanumeric, 20),
    form("doo_v1_", Alphanumeric, 32),
    form("dop_v1_", Alphanumeric, 32),
    form("dor_v1_", Alphanumeric, 32),
    form("dp.pt.", Word, 20),
    form("dp.st.", Base64, 20),
    form("dt0c01.", Base64, 40),
    form("eyJ", Dotted, 10),
    form("figd_", Word, 20),
    form("fm1_", Base64, 20),
    form("fm2_", Base64, 20),
    form("gho_", Alphanumeric, 16),
    form("ghp_", Alphanumeric, 16),
    form("ghr_", Alphanumeric, 16),
    form("ghs_", Alphanumeric, 16),
    form("ghu_", Alphanumeric, 16),
    form("github_pat_", Word, 20),
    form("glagent-", Word, 16),
    form("glcbt-", Word, 16),
    form("glc_", Base64, 24),
    form("gldt-", Word, 16),
    form("glft-", Word, 16),
    form("glimt-", Word, 16),
    form("gloas-", Word, 16),
    form("glpat-", Word, 16),
    form("glptt-", Word, 16),
    form("glrt-", Word, 16),
    form("glsoat-", Word, 16),
    form("glsa_", Word, 24),
    form("gsk_", Alphanumeric, 30),
    form("hf_", Alphanumeric, 24),
    form("hvb.", Word, 16),
    form("hvr.", Word, 16),
    form("hvs.", Word, 16),
    form("key-", Hexadecimal, 32),
    form("lin_api_", Alphanumeric, 20),
    form("lsv2_", Word, 20),
    form("napi_", Alphanumeric, 30),
    form("nfp_", Alphanumeric, 30),
    form("npm_", Alphanumeric, 30),
    form("nvapi-", Word, 30),
    form("oy2", Random, 40),
    form("pat-", Random, 32),
    form("pplx-", Alphanumeric, 30),
    form("pscale_tkn_", Base64, 20),
    form("pscale_pw_", Base64, 20),
    form("pul-", Hexadecimal, 30),
    form("pypi-", Random, 16),
    form("r8_", Alphanumeric, 30),
    form("rdme_", Alphanumeric, 30),
    form("rk_live_", Alphanumeric, 16),
    form("rk_test_", Alphanumeric, 16),
    form("rnd_", Random, 20),
    form("rubygems_", Hexadecimal, 30),
    form("sbp_", Hexadecimal, 30),
    form("secret_", Random, 40),
    form("sgp_", Word, 30),
    form("sha256~", Word, 30),
    form("shpat_", Alphanumeric, 20),
    form("shpss_", Alphanumeric, 20),
    form("sk-", Random, 16),
    form("sk_live_", Alphanumeric, 16),
    form("sk_test_", Alphanumeric, 16),
    form("sntrys_", Base64, 30),
    form("sntryu_", Hexadecimal, 30),
    form("sqa_", Hexadecimal, 30),
    form("sqp_", Hexadecimal, 30),
    form("squ_", Hexadecimal, 30),
    form("tfp_", Word, 30),
    form("tskey-", Word, 16),
    form("whsec_", Base64, 20),
    form("xai-", Alphanumeric, 30),
    form("xapp-", Word, 8),
    form("xoxa-", Word, 8),
    form("xoxb-", Word, 8),
    form("xoxc-", Word, 8),
    form("xoxd-", Base64, 8),
    form("xoxe-", Word, 8),
    form("xoxp-", Word, 8),
    form("xoxr-", Word, 8),
    form("xoxs-", Word, 8),
    form("ya29.", Base64, 12),
];

/// For each first byte of a prefix, the possible second bytes: bit N is set if byte N can follow.
/// Most words begin no token, so for most words this check is the whole cost.
static PAIRS: [u128; 128] = {
    let mut pairs = [0; 128];
    let mut index = 0;
    // Iterators are not available in constants.
    while index < FORMS.len() {
        let prefix = &FORMS[index].prefix;
        pairs[prefix[0] as usize] |= 1 << prefix[1];
        index += 1;
    }
    pairs
};

/// The length of the token at the beginning of `rest`, in bytes; 0 if there is none. `truncated`
/// means that the end of `rest` may be missing, so a token may be shorter than its usual length.
pub(super) fn length(rest: &[u8], truncated: bool) -> usize {
    let &[first, second, third, ..] = rest else { return 0 };
    let pairs = PAIRS.get(usize::from(first)).copied().unwrap_or(0);
    if second >= 128 || pairs >> second & 1 == 0 {
        return 0;
    }
    let key = [first, second, third];
    let from = FORMS.partition_point(|form| form.prefix[..3] < key[..]);
    FORMS[from..]
        .iter()
        .take_while(|form| form.prefix[..3] == key[..])
        .find_map(|form| form.length(rest, truncated))
        .unwrap_or(0)
}

impl Form {
    fn length(&self, rest: &[u8], truncated: bool) -> Option<usize> {
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
        let is_token = more >= usize::from(self.least)
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
    use super::FORMS;

    /// Check that the table is sorted as the search in it needs.
    #[test]
    fn the_forms_are_sorted() {
        assert!(FORMS.is_sorted_by_key(|form| [form.prefix[0], form.prefix[1], form.prefix[2]]));
    }
}
