//! The two spellings of a connection string, as libpq reads them: a URL, or `keyword=value` pairs.
//!
//! <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>

use super::conninfo::ConninfoError;

/// Parameters in the order in which they stand, percent-decoded and unquoted.
pub(super) type Parameters = Vec<(String, String)>;

pub(super) fn parse(text: &str) -> Result<Parameters, ConninfoError> {
    match text
        .strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
    {
        Some(rest) => parse_url(rest),
        None => parse_keywords(text),
    }
}

/// What follows `postgresql://`: `[user[:password]@][host[:port],...][/dbname][?key=value&...]`.
fn parse_url(rest: &str) -> Result<Parameters, ConninfoError> {
    let mut parameters = Parameters::new();
    let mut add = |key: &str, text: &str| -> Result<(), ConninfoError> {
        if !text.is_empty() {
            parameters.push((key.to_owned(), percent_decode(text)?));
        }
        Ok(())
    };
    let mut rest = rest;
    // The first `@` before a `/` ends the user, as for libpq: neither may stand unencoded in a password.
    if let Some(end) = rest.find(['@', '/']).filter(|at| rest[*at..].starts_with('@')) {
        let (user, password) = rest[..end].split_once(':').unwrap_or((&rest[..end], ""));
        add("user", user)?;
        add("password", password)?;
        rest = &rest[end + 1..];
    }
    // What follows one in a password is the rest of it, and would be told as the host's or the database's name.
    if rest.split('?').next().is_some_and(|place| place.contains('@')) {
        return Err(ConninfoError::AtSign);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (hosts, ports) = split_hosts(&rest[..end])?;
    add("host", &hosts)?;
    add("port", &ports)?;
    rest = &rest[end..];
    if let Some(path) = rest.strip_prefix('/') {
        let end = path.find('?').unwrap_or(path.len());
        add("dbname", &path[..end])?;
        rest = &path[end..];
    }
    if let Some(query) = rest.strip_prefix('?') {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(ConninfoError::MissingValue)?;
            if key.contains('@') {
                return Err(ConninfoError::AtSign);
            }
            if value.contains('=') {
                return Err(ConninfoError::ExtraEquals);
            }
            let (key, value) = (percent_decode(key)?, percent_decode(value)?);
            // JDBC's spelling, which libpq understands too.
            let jdbc_ssl = key == "ssl" && value == "true";
            parameters.push(if jdbc_ssl {
                ("sslmode".into(), "require".into())
            } else {
                (key, value)
            });
        }
    }
    Ok(parameters)
}

/// `a:1,[::1]:2,c` to the lists `a,::1,c` and `1,2,`, still percent-encoded.
fn split_hosts(text: &str) -> Result<(String, String), ConninfoError> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for part in text.split(',') {
        let (host, port) = match part.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or(ConninfoError::UnclosedBracket)?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, port),
                    None if rest.is_empty() => (host, ""),
                    None => return Err(ConninfoError::UnclosedBracket),
                }
            }
            None => part.split_once(':').unwrap_or((part, "")),
        };
        hosts.push(host);
        ports.push(port);
    }
    // `a,b` without any port is no list of empty ports.
    let ports = if ports.iter().all(|port| port.is_empty()) {
        String::new()
    } else {
        ports.join(",")
    };
    let hosts = if hosts.iter().all(|host| host.is_empty()) {
        String::new()
    } else {
        hosts.join(",")
    };
    Ok((hosts, ports))
}

fn percent_decode(text: &str) -> Result<String, ConninfoError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(ConninfoError::PercentEncoding);
        };
        match u8::try_from(high * 16 + low) {
            Ok(byte) if byte != 0 => decoded.push(byte),
            _ => return Err(ConninfoError::PercentEncoding),
        }
    }
    String::from_utf8(decoded).map_err(|_| ConninfoError::PercentEncoding)
}

/// `key = value key='quoted \' value'`.
fn parse_keywords(text: &str) -> Result<Parameters, ConninfoError> {
    let mut parameters = Parameters::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c == '=' || c.is_ascii_whitespace())
            .ok_or(ConninfoError::MissingValue)?;
        let key = &rest[..end];
        let Some(value) = rest[end..].trim_start().strip_prefix('=') else {
            return Err(ConninfoError::MissingValue);
        };
        let (value, after) = keyword_value(value.trim_start())?;
        parameters.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(parameters)
}

/// One value and what follows it. A backslash takes the next character as it is, quoted or not.
fn keyword_value(text: &str) -> Result<(String, &str), ConninfoError> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            c if !quoted && c.is_ascii_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        Err(ConninfoError::UnclosedQuote)
    } else {
        Ok((value, ""))
    }
}
