//! Decides from the name of an option, a variable or a field of what kind its value is: a secret,
//! perhaps a secret, or something else.
//!
//! A name is split into words at `-`, `_`, `.` and before a capital: `dbPassword` and `DB_PASSWORD`
//! are the same two words. The last word names the value, the words before it specify it: `api-key`
//! is a secret, `primary-key` is not, `token-file` is a path.

/// The kind of value that belongs to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// Not a secret.
    Other,
    /// A secret, unless the value is a reference, a path or a switch: `--db-password`.
    Secret,
    /// A secret if the value looks like one: `--key`, `TOKEN_FOR_X`.
    Likely,
    /// A secret unless the value is a word: `STRIPE_KEY`. The value of `--stripe-key` is more often
    /// a file.
    Key,
    /// `user:SECRET`, or a secret: `--creds`.
    Pair,
    /// `user:SECRET`, or what looks like a secret: `--auth`.
    PairOrLikely,
    /// `user:SECRET` if the second part looks like a secret: `--user`.
    LikelyPair,
    /// A number or something that looks like a secret: `--pin`.
    Number,
    /// Several words: `--seed-phrase`.
    Phrase,
    /// `name=SECRET; name=SECRET`: `--cookie`.
    Cookie,
    /// A command or a file that supplies a secret: `--password-command`, `--token-file`.
    Source,
}

/// What one word of a name shows about the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameWord {
    Secret,
    Password,
    /// A plural, and so mostly a count or a list, although the singular names a secret: `tokens`.
    Plural,
    /// `token`: secret except for the tokens of a language model.
    Token,
    /// `pass`: secret except for the passes of an encoder.
    Pass,
    /// `key`: the word before it decides whether the value is a secret.
    Key,
    /// A kind of key that is secret.
    SecretKind,
    /// What the secret gives access to: `session` in `session-id`.
    Holder,
    Likely,
    Number,
    Phrase,
    Pair,
    Auth,
    User,
    Cookie,
    /// Shows nothing about the value: `value`, `new`, `2`.
    Filler,
    /// The value is a fact about a secret, and not the secret: `name`, `type`.
    About,
    Id,
    Source,
    /// `passwordfile`: the same as the two words.
    PassSource,
    /// Makes any name harmless: `public`, `max`, `existing`.
    Harmless,
    /// A kind of key, token or pass that is harmless: `primary`.
    HarmlessKind,
    /// Makes an option a switch if it comes first: `no`, `ask`.
    Switch,
    Other,
}

/// How many bytes of a name are examined, from its end.
const NAME_MAX: usize = 64;
/// How many words of a name are examined, from its end.
const WORDS_MAX: usize = 16;

/// The kind of value that belongs to a name. The name of an option is given with its leading
/// hyphens: so `--no-password` is a switch, while the variable `NO_PASSWORD` has a value.
pub(super) fn value_kind_of(name: &[u8]) -> ValueKind {
    let name = &name[name.len().saturating_sub(NAME_MAX)..];
    let (mut buffer, mut words) = ([0; NAME_MAX], [NameWord::Other; WORDS_MAX]);
    let count = split_words(name, &mut buffer, &mut words);
    let mut words = &words[..count];
    if words.is_empty() {
        return ValueKind::Other;
    }
    let is_option = name.starts_with(b"-");
    if is_option && words.len() > 1 && words[0] == NameWord::Switch {
        return ValueKind::Other;
    }
    if words.contains(&NameWord::Harmless) {
        return ValueKind::Other;
    }
    while let [rest @ .., NameWord::Filler] = words
        && !rest.is_empty()
    {
        words = rest;
    }
    let Some((last, before)) = words.split_last() else { return ValueKind::Other };
    let word_before = before.last().copied().unwrap_or(NameWord::Other);
    let is_secret = |word: &NameWord| {
        matches!(word, NameWord::Secret | NameWord::Password | NameWord::Token | NameWord::Pass)
    };
    match last {
        NameWord::Key | NameWord::Token | NameWord::Pass | NameWord::Plural
            if word_before == NameWord::HarmlessKind =>
        {
            ValueKind::Other
        }
        NameWord::Secret | NameWord::Password | NameWord::Token => ValueKind::Secret,
        // An encoder has passes too (`--pass 2`): the form of the value decides, see `value`.
        NameWord::Pass => ValueKind::Secret,
        // `adminPasswordKey` is the key of an entry that has a password.
        NameWord::Key
            if matches!(
                word_before,
                NameWord::SecretKind | NameWord::Holder | NameWord::Secret | NameWord::Token
            ) || matches!(word_before, NameWord::Number | NameWord::Auth) =>
        {
            ValueKind::Secret
        }
        NameWord::Key if !before.is_empty() && is_variable(name) => ValueKind::Key,
        NameWord::Key | NameWord::Likely | NameWord::Plural => ValueKind::Likely,
        NameWord::Number => ValueKind::Number,
        NameWord::Phrase => ValueKind::Phrase,
        NameWord::Pair => ValueKind::Pair,
        NameWord::Auth => ValueKind::PairOrLikely,
        NameWord::User => ValueKind::LikelyPair,
        NameWord::Cookie => ValueKind::Cookie,
        NameWord::Id if matches!(word_before, NameWord::Holder) => ValueKind::Likely,
        NameWord::Id if word_before == NameWord::Secret => ValueKind::Secret,
        NameWord::Source if before.iter().any(is_secret) || word_before == NameWord::Key => {
            ValueKind::Source
        }
        NameWord::PassSource => ValueKind::Source,
        NameWord::About | NameWord::Id | NameWord::Source => ValueKind::Other,
        // `DB_PASSWORD_PROD`: the last word shows nothing, and an earlier word names a secret.
        _ if words.iter().any(is_secret) => ValueKind::Likely,
        _ => ValueKind::Other,
    }
}

/// Whether a name has the form of an environment variable: capitals, digits and `_`.
fn is_variable(name: &[u8]) -> bool {
    name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
}

/// Splits a name into words, and writes their meanings to `words`. Returns the number of words.
fn split_words(
    name: &[u8],
    buffer: &mut [u8; NAME_MAX],
    words: &mut [NameWord; WORDS_MAX],
) -> usize {
    let (mut count, mut start, mut end) = (0, 0, 0);
    for (at, byte) in name.iter().enumerate() {
        let upper = byte.is_ascii_uppercase();
        let after = at.checked_sub(1).map_or(0, |before| name[before]);
        // The `P` of `dbPassword`, and the `K` of `APIKey`.
        let is_boundary = upper
            && (after.is_ascii_lowercase()
                || after.is_ascii_uppercase()
                    && name.get(at + 1).is_some_and(u8::is_ascii_lowercase));
        if (is_boundary || !byte.is_ascii_alphanumeric()) && end > start {
            push_word(&buffer[start..end], words, &mut count);
            start = end;
        }
        if byte.is_ascii_alphanumeric() {
            buffer[end] = byte.to_ascii_lowercase();
            end += 1;
        }
    }
    if end > start {
        push_word(&buffer[start..end], words, &mut count);
    }
    count
}

/// Appends the meaning of a word. Of a name with more than [`WORDS_MAX`] words the last ones are
/// kept.
fn push_word(word: &[u8], words: &mut [NameWord; WORDS_MAX], count: &mut usize) {
    if *count == WORDS_MAX {
        words.copy_within(1.., 0);
        *count -= 1;
    }
    words[*count] = meaning_of_word(word);
    *count += 1;
}

/// What a word in lower case shows about the value.
#[rustfmt::skip]
fn meaning_of_word(word: &[u8]) -> NameWord {
    // Digits at the end mean nothing: `password2`, `v2`.
    let digits = word.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let word = &word[..word.len() - digits];
    match word {
        b"password" | b"passwd" | b"passphrase" | b"passcode" | b"pwd" | b"pw" | b"pswd"
        | b"passwort" => NameWord::Password,
        b"secret" | b"psk" | b"jwt" | b"bearer" | b"apikey" | b"authkey"
        | b"authtoken" | b"psw" | b"pword" | b"webhooksecret" | b"appkey" | b"masterkey"
        | b"masterauth" | b"requirepass" | b"pat" | b"passin" | b"passout"
        | b"upw" => NameWord::Secret,
        b"token" | b"tok" => NameWord::Token,
        b"pass" => NameWord::Pass,
        b"tokens" | b"passwords" | b"secrets" | b"keys" | b"passes" => NameWord::Plural,
        b"key" => NameWord::Key,
        b"api" | b"private" | b"priv" | b"encryption" | b"encrypt" | b"decryption" | b"decrypt"
        | b"signing" | b"master" | b"account" | b"hmac" | b"shared" | b"preshared" | b"unseal"
        | b"join" | b"license" | b"licence" | b"app" | b"application" | b"subscription"
        | b"storage" | b"recovery" | b"aes" | b"cipher" | b"crypt" | b"crypto" | b"fernet"
        | b"write" | b"ingest" | b"ingestion" | b"admin" | b"stream" | b"rest" | b"integration"
        | b"instrumentation" | b"sas" | b"salt" | b"wireguard" | b"secure" | b"deploy"
        | b"activation" | b"product" | b"serial" | b"certificate" | b"webhook" | b"functions"
        | b"bootstrap" | b"gossip" => NameWord::SecretKind,
        b"access" | b"session" | b"sess" => NameWord::Holder,
        b"accesskey" | b"secretkey" | b"privatekey" => NameWord::Secret,
        b"sig" | b"signature" | b"hmacs" | b"assertion" | b"sid" | b"nonce" | b"phpsessid"
        | b"jsessionid" | b"sessionid" | b"sessid" | b"community" | b"ticket" | b"licensekey"
        | b"csrf" | b"xsrf" => NameWord::Likely,
        b"pin" | b"otp" | b"totp" | b"mfa" | b"cvv" | b"cvc" | b"puk" => NameWord::Number,
        b"seed" | b"mnemonic" | b"phrase" => NameWord::Phrase,
        b"creds" | b"cred" | b"userpwd" | b"userpass" | b"userpw" => NameWord::Pair,
        b"credential" | b"credentials" => NameWord::Pair,
        b"auth" => NameWord::Auth,
        b"user" | b"login" | b"username" => NameWord::User,
        b"cookie" | b"cookies" => NameWord::Cookie,
        b"" | b"v" | b"base" | b"string" | b"value" | b"text" | b"plain" | b"plaintext" | b"raw"
        | b"literal" | b"b" | b"hex" | b"old" | b"new" | b"current" | b"confirm"
        | b"confirmation" | b"again" | b"repeat" | b"clear" | b"str" | b"val" => NameWord::Filler,
        b"file" | b"files" | b"path" | b"command" | b"cmd" | b"eval" | b"script" | b"fd"
        | b"askpass" | b"helper" | b"program" | b"exec" | b"stdin" => NameWord::Source,
        b"id" | b"ids" => NameWord::Id,
        b"name" | b"names" | b"dir" | b"ref" | b"url" | b"uri" | b"endpoint" | b"type" | b"mode"
        | b"length" | b"len" | b"size" | b"ttl" | b"expiry" | b"expires" | b"expiration"
        | b"lifetime" | b"duration" | b"age" | b"policy" | b"provider" | b"providers" | b"store"
        | b"env" | b"var" | b"format" | b"encoding" | b"header" | b"field" | b"method"
        | b"prompt" | b"required" | b"enabled" | b"disabled" | b"caching" | b"cache"
        | b"algorithm" | b"algo" | b"authentication" | b"location" | b"source" | b"mount"
        | b"backend" | b"version" | b"rotation" | b"validity" | b"audience" | b"issuer"
        | b"review" | b"reviewer" | b"namespace" | b"timeout" | b"interval" | b"retries"
        | b"minutes" | b"seconds" | b"hours" | b"days" | b"strength" | b"rounds" | b"iterations"
        | b"cost" | b"class" | b"service" | b"server" | b"host" | b"port" | b"limit" | b"index"
        | b"jar" | b"domain" | b"samesite" | b"httponly" | b"manager" | b"engine" | b"plugin"
        | b"through" | b"pattern" | b"regex" | b"map" | b"info" | b"count"
        | b"classification" | b"webhookurl" | b"label" | b"template" | b"schema" | b"table"
        | b"log" | b"logfile" | b"protocol" | b"digest" | b"principal" | b"scope" | b"scopes"
        | b"config" | b"option" | b"options" | b"action" | b"position" => NameWord::About,
        b"public" | b"pub" | b"max" | b"min" | b"existing" | b"enable" | b"disable" | b"skip"
        | b"publishable" => NameWord::Harmless,
        b"num" | b"n" | b"primary" | b"foreign" | b"sort" | b"partition" | b"routing" | b"group"
        | b"tag" | b"order" | b"unique" | b"object" | b"bucket" | b"idempotency" | b"bypass"
        | b"compass" | b"trespass" | b"passthrough" | b"pad" | b"bos" | b"eos" | b"unk" | b"sep"
        | b"cls" | b"mask" | b"special" | b"stop" | b"single" | b"multi" | b"first" | b"predict"
        | b"row" | b"column" | b"hotkey" | b"turkey" | b"monkey" | b"oldpwd" | b"two" | b"one"
        | b"gpg" | b"pgp" | b"render" | b"image" | b"range" | b"recv" | b"send" | b"search"
        | b"trusted" | b"composite" | b"shard" => NameWord::HarmlessKind,
        b"no" | b"ask" | b"use" | b"without" | b"with" | b"require" | b"allow" | b"has"
        | b"is" | b"show" | b"generate" | b"gen" | b"auto" | b"rotate" | b"revoke"
        | b"read" | b"verify" | b"delete" | b"remove" | b"list" | b"export" | b"import"
        | b"print" | b"get" => NameWord::Switch,
        _ => meaning_of_compound(word),
    }
}

/// What a word shows that consists of several words without a separator: `pgpassword`, `apitoken`.
fn meaning_of_compound(word: &[u8]) -> NameWord {
    let ends = |ending: &[u8]| word.len() > ending.len() && word.ends_with(ending);
    match word.last() {
        Some(b'd') if ends(b"password") || ends(b"passwd") || ends(b"pwd") => NameWord::Password,
        Some(b'e') if ends(b"passphrase") || ends(b"passcode") => NameWord::Password,
        Some(b't') if ends(b"secret") => NameWord::Secret,
        Some(b'n') if ends(b"token") => NameWord::Token,
        Some(b's') if ends(b"pass") => NameWord::Pass,
        Some(b's') if ends(b"credentials") => NameWord::Pair,
        Some(b'y') if ends(b"key") => match word.strip_suffix(b"key").map(meaning_of_word) {
            Some(NameWord::SecretKind | NameWord::Holder | NameWord::Secret) => NameWord::Secret,
            Some(NameWord::Auth) => NameWord::Secret,
            _ => NameWord::Other,
        },
        Some(b'e' | b'l' | b'd') => {
            const SOURCES: [&[u8]; 6] = [
                b"passwordfile",
                b"passfile",
                b"tokenfile",
                b"passwordeval",
                b"passeval",
                b"passwordcommand",
            ];
            if SOURCES.iter().any(|source| word.ends_with(source)) {
                NameWord::PassSource
            } else {
                NameWord::Other
            }
        }
        _ => NameWord::Other,
    }
}
