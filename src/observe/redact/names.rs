//! Decides from a name what its value is: a secret, perhaps one, or something else.
//!
//! A name is split into words at `-`, `_`, `.` and before a capital: `dbPassword` and
//! `DB_PASSWORD` are the same two words. The last word says what the value is, the others say what
//! kind of it: `api-key` is a secret, `primary-key` is not, `token-file` is a path.

/// What the value of a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
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

/// What a word in a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Secret,
    Password,
    /// Secret in the singular; a count or a list otherwise: `tokens`.
    Plural,
    /// `token`: secret except for the tokens of a language model.
    Token,
    /// `pass`: secret except for the passes of an encoder.
    Pass,
    /// `key`: the word before it decides.
    Key,
    /// A kind of key that is secret.
    SecretKind,
    /// What the value may be a secret of: `session` in `session-id`.
    Holder,
    Likely,
    Number,
    Phrase,
    Pair,
    Auth,
    User,
    Cookie,
    /// Says nothing: `value`, `new`, `2`.
    Filler,
    /// What the value is instead of a secret: `name`, `type`.
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

/// How many bytes at the end of a name are examined, and how many words of it.
const NAME_MAX: usize = 64;
const WORDS_MAX: usize = 16;

/// What the value of this name is. Options keep their hyphens: a leading one makes `--no-password`
/// a switch, while the variable `NO_PASSWORD` has a value.
pub(super) fn sense(name: &[u8]) -> Sense {
    let name = &name[name.len().saturating_sub(NAME_MAX)..];
    let (mut buffer, mut words) = ([0; NAME_MAX], [Word::Other; WORDS_MAX]);
    let count = split(name, &mut buffer, &mut words);
    let mut words = &words[..count];
    if words.is_empty() {
        return Sense::Other;
    }
    let is_option = name.starts_with(b"-");
    if is_option && words.len() > 1 && words[0] == Word::Switch {
        return Sense::Other;
    }
    if words.contains(&Word::Harmless) {
        return Sense::Other;
    }
    while let [rest @ .., Word::Filler] = words
        && !rest.is_empty()
    {
        words = rest;
    }
    let Some((last, before)) = words.split_last() else { return Sense::Other };
    let kind = before.last().copied().unwrap_or(Word::Other);
    let is_secret =
        |word: &Word| matches!(word, Word::Secret | Word::Password | Word::Token | Word::Pass);
    match last {
        Word::Key | Word::Token | Word::Pass | Word::Plural if kind == Word::HarmlessKind => {
            Sense::Other
        }
        Word::Secret | Word::Password | Word::Token => Sense::Secret,
        // A pass of an encoder has the same name: the value decides, see `value`.
        Word::Pass => Sense::Secret,
        // `adminPasswordKey` is the key of an entry that has a password.
        Word::Key
            if matches!(kind, Word::SecretKind | Word::Holder | Word::Secret | Word::Token)
                || matches!(kind, Word::Number | Word::Auth) =>
        {
            Sense::Secret
        }
        Word::Key if !before.is_empty() && is_variable(name) => Sense::Key,
        Word::Key | Word::Likely | Word::Plural => Sense::Likely,
        Word::Number => Sense::Number,
        Word::Phrase => Sense::Phrase,
        Word::Pair => Sense::Pair,
        Word::Auth => Sense::PairOrLikely,
        Word::User => Sense::LikelyPair,
        Word::Cookie => Sense::Cookie,
        Word::Id if matches!(kind, Word::Holder) => Sense::Likely,
        Word::Id if kind == Word::Secret => Sense::Secret,
        Word::Source if before.iter().any(is_secret) || kind == Word::Key => Sense::Source,
        Word::PassSource => Sense::Source,
        Word::About | Word::Id | Word::Source => Sense::Other,
        // `DB_PASSWORD_PROD`: the last word is none that says what the value is.
        _ if words.iter().any(is_secret) => Sense::Likely,
        _ => Sense::Other,
    }
}

/// Whether a name is that of an environment variable.
fn is_variable(name: &[u8]) -> bool {
    name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
}

/// Splits a name into words. Returns their number.
fn split(name: &[u8], buffer: &mut [u8; NAME_MAX], words: &mut [Word; WORDS_MAX]) -> usize {
    let (mut count, mut start, mut end) = (0, 0, 0);
    for (at, byte) in name.iter().enumerate() {
        let upper = byte.is_ascii_uppercase();
        let after = at.checked_sub(1).map_or(0, |before| name[before]);
        // `dbPassword`, and the `K` of `APIKey`.
        let is_boundary = upper
            && (after.is_ascii_lowercase()
                || after.is_ascii_uppercase()
                    && name.get(at + 1).is_some_and(u8::is_ascii_lowercase));
        if (is_boundary || !byte.is_ascii_alphanumeric()) && end > start {
            add(&buffer[start..end], words, &mut count);
            start = end;
        }
        if byte.is_ascii_alphanumeric() {
            buffer[end] = byte.to_ascii_lowercase();
            end += 1;
        }
    }
    if end > start {
        add(&buffer[start..end], words, &mut count);
    }
    count
}

/// Adds a word. Of a name with too many words the last ones are kept.
fn add(word: &[u8], words: &mut [Word; WORDS_MAX], count: &mut usize) {
    if *count == WORDS_MAX {
        words.copy_within(1.., 0);
        *count -= 1;
    }
    words[*count] = meaning(word);
    *count += 1;
}

#[rustfmt::skip]
fn meaning(word: &[u8]) -> Word {
    // `password2`, `v2`, `2`.
    let digits = word.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let word = &word[..word.len() - digits];
    match word {
        b"password" | b"passwd" | b"passphrase" | b"passcode" | b"pwd" | b"pw" | b"pswd"
        | b"passwort" => Word::Password,
        b"secret" | b"psk" | b"jwt" | b"bearer" | b"apikey" | b"authkey"
        | b"authtoken" | b"psw" | b"pword" | b"webhooksecret" | b"appkey" | b"masterkey"
        | b"masterauth" | b"requirepass" | b"pat" | b"passin" | b"passout" | b"upw" => Word::Secret,
        b"token" | b"tok" => Word::Token,
        b"pass" => Word::Pass,
        b"tokens" | b"passwords" | b"secrets" | b"keys" | b"passes" => Word::Plural,
        b"key" => Word::Key,
        b"api" | b"private" | b"priv" | b"encryption" | b"encrypt" | b"decryption" | b"decrypt"
        | b"signing" | b"master" | b"account" | b"hmac" | b"shared" | b"preshared" | b"unseal"
        | b"join" | b"license" | b"licence" | b"app" | b"application" | b"subscription"
        | b"storage" | b"recovery" | b"aes" | b"cipher" | b"crypt" | b"crypto" | b"fernet"
        | b"write" | b"ingest" | b"ingestion" | b"admin" | b"stream" | b"rest" | b"integration"
        | b"instrumentation" | b"sas" | b"salt" | b"wireguard" | b"secure" | b"deploy"
        | b"activation" | b"product" | b"serial" | b"certificate" | b"webhook" | b"functions"
        | b"bootstrap" | b"gossip" => Word::SecretKind,
        b"access" | b"session" | b"sess" => Word::Holder,
        b"accesskey" | b"secretkey" | b"privatekey" => Word::Secret,
        b"sig" | b"signature" | b"hmacs" | b"assertion" | b"sid" | b"nonce" | b"phpsessid"
        | b"jsessionid" | b"sessionid" | b"sessid" | b"community" | b"ticket" | b"licensekey"
        | b"csrf" | b"xsrf" => Word::Likely,
        b"pin" | b"otp" | b"totp" | b"mfa" | b"cvv" | b"cvc" | b"puk" => Word::Number,
        b"seed" | b"mnemonic" | b"phrase" => Word::Phrase,
        b"creds" | b"cred" | b"userpwd" | b"userpass" | b"userpw" => Word::Pair,
        b"credential" | b"credentials" => Word::Pair,
        b"auth" => Word::Auth,
        b"user" | b"login" | b"username" => Word::User,
        b"cookie" | b"cookies" => Word::Cookie,
        b"" | b"v" | b"base" | b"string" | b"value" | b"text" | b"plain" | b"plaintext" | b"raw"
        | b"literal" | b"b" | b"hex" | b"old" | b"new" | b"current" | b"confirm"
        | b"confirmation" | b"again" | b"repeat" | b"clear" | b"str" | b"val" => Word::Filler,
        b"file" | b"files" | b"path" | b"command" | b"cmd" | b"eval" | b"script" | b"fd"
        | b"askpass" | b"helper" | b"program" | b"exec" | b"stdin" => Word::Source,
        b"id" | b"ids" => Word::Id,
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
        | b"config" | b"option" | b"options" | b"action" | b"position" => Word::About,
        b"public" | b"pub" | b"max" | b"min" | b"existing" | b"enable" | b"disable" | b"skip"
        | b"publishable" => Word::Harmless,
        b"num" | b"n" | b"primary" | b"foreign" | b"sort" | b"partition" | b"routing" | b"group"
        | b"tag" | b"order" | b"unique" | b"object" | b"bucket" | b"idempotency" | b"bypass"
        | b"compass" | b"trespass" | b"passthrough" | b"pad" | b"bos" | b"eos" | b"unk" | b"sep"
        | b"cls" | b"mask" | b"special" | b"stop" | b"single" | b"multi" | b"first" | b"predict"
        | b"row" | b"column" | b"hotkey" | b"turkey" | b"monkey" | b"oldpwd" | b"two" | b"one"
        | b"gpg" | b"pgp" | b"render" | b"image" | b"range" | b"recv" | b"send" | b"search"
        | b"trusted" | b"composite" | b"shard" => Word::HarmlessKind,
        b"no" | b"ask" | b"use" | b"without" | b"with" | b"require" | b"allow" | b"has"
        | b"is" | b"show" | b"generate" | b"gen" | b"auto" | b"rotate" | b"revoke"
        | b"read" | b"verify" | b"delete" | b"remove" | b"list" | b"export" | b"import"
        | b"print" | b"get" => Word::Switch,
        _ => glued(word),
    }
}

/// Words that are written without a separator: `pgpassword`, `apitoken`, `dbpass`.
fn glued(word: &[u8]) -> Word {
    let ends = |ending: &[u8]| word.len() > ending.len() && word.ends_with(ending);
    match word.last() {
        Some(b'd') if ends(b"password") || ends(b"passwd") || ends(b"pwd") => Word::Password,
        Some(b'e') if ends(b"passphrase") || ends(b"passcode") => Word::Password,
        Some(b't') if ends(b"secret") => Word::Secret,
        Some(b'n') if ends(b"token") => Word::Token,
        Some(b's') if ends(b"pass") => Word::Pass,
        Some(b's') if ends(b"credentials") => Word::Pair,
        Some(b'y') if ends(b"key") => match word.strip_suffix(b"key").map(meaning) {
            Some(Word::SecretKind | Word::Holder | Word::Secret) => Word::Secret,
            Some(Word::Auth) => Word::Secret,
            _ => Word::Other,
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
                Word::PassSource
            } else {
                Word::Other
            }
        }
        _ => Word::Other,
    }
}
