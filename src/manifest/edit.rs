//! Writing one number into a manifest that people wrote: everything else in it, comments included, stays as it is.
//! The caller reads the result again and compares before it keeps it, so an odd layout is at worst refused.

use super::model::Tenant;

const KEY: &str = "generation";

/// `text`, the tenant's file, with its `spec.credentials.generation` as `generation`; `None` where it is laid out in a
/// way that is not understood.
pub fn with_generation(text: &str, tenant: &Tenant, generation: u32) -> Option<String> {
    let origins = &tenant.origins;
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let at = |path: &str| origins.fields.get(path).and_then(|line| (*line as usize).checked_sub(1));
    if let Some(line) = at("spec.credentials.generation") {
        let line = lines.get_mut(line)?;
        *line = replaced(line, generation)?;
    } else if at("spec.credentials").is_some() {
        return None;
    } else {
        let spec = lines[origins.object.line.checked_sub(1)? as usize..].iter().position(|line| starts_spec(line))?;
        insert(&mut lines, spec + origins.object.line as usize - 1, generation)?;
    }
    Some(lines.concat())
}

fn starts_spec(line: &str) -> bool {
    line.starts_with("spec:")
}

/// The number behind the key.
fn replaced(line: &str, generation: u32) -> Option<String> {
    let key = line.find(KEY)? + KEY.len();
    let value = key + line[key..].find(|c: char| c.is_ascii_digit())?;
    let between = line[key..value].trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    let end = line[value..].find(|c: char| !c.is_ascii_digit()).map_or(line.len(), |at| value + at);
    (between == ":").then(|| format!("{}{generation}{}", &line[..value], &line[end..]))
}

/// As the first key of `spec`, in its own style.
fn insert(lines: &mut Vec<String>, spec: usize, generation: u32) -> Option<()> {
    let rest = lines[spec]["spec:".len()..].trim();
    if let Some(inner) = rest.strip_prefix('{') {
        let comma = if inner.trim_start().starts_with('}') { "" } else { "," };
        let entry = format!("{{ credentials: {{ {KEY}: {generation} }}{comma}");
        lines[spec] = lines[spec].replacen('{', &entry, 1);
        return Some(());
    }
    if !(rest.is_empty() || rest.starts_with('#')) {
        return None;
    }
    let first =
        lines[spec + 1..].iter().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))?;
    if first.trim_start().starts_with('{') {
        return None;
    }
    let indent = first[..first.len() - first.trim_start().len()].to_owned();
    let line_end = if lines[spec].ends_with("\r\n") { "\r\n" } else { "\n" };
    let entry = format!("{indent}credentials: {{ {KEY}: {generation} }}{line_end}");
    lines.insert(spec + 1, entry);
    (!indent.is_empty()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Source, load};
    use crate::tenancy::TenantId;

    const REST: &str = "apiVersion: ogelnates.dev/v1\nkind: Fleet\nmetadata: { name: shop }\n---\n\
        apiVersion: ogelnates.dev/v1\nkind: Tier\nmetadata: { name: free }\nspec: { limits: { connections: 5 }, placement: { pool: shared } }\n---\n\
        apiVersion: ogelnates.dev/v1\nkind: DatabasePool\nmetadata: { name: shared }\nspec: { tenantsPerInstance: 5, instances: { min: 1, max: 2 } }\n";

    /// The whole edited text, after it was read again.
    fn edited(spec: &str) -> Option<String> {
        let head = "# ours\napiVersion: ogelnates.dev/v1\nkind: Tenant\nmetadata: { name: acme } # the shop\n";
        let text = format!("{head}{spec}");
        let read = |text: &str| {
            let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
            load(&[source("rest.yaml", REST), source("acme.yaml", text)]).unwrap_or_else(|e| panic!("{}", e.render()))
        };
        let acme = TenantId::parse("acme").expect("valid");
        let out = with_generation(&text, &read(&text).tenants[&acme], 7)?;
        assert_eq!(read(&out).tenants[&acme].generation, 7, "{out}");
        Some(out.strip_prefix(head).expect("the head stays").to_owned())
    }

    #[test]
    fn only_the_number_changes_and_comments_stay() {
        for (before, after) in [
            ("spec:\n  credentials: { generation: 3 } # soon\n", "spec:\n  credentials: { generation: 7 } # soon\n"),
            (
                "spec:\n  credentials:\n    # of 2\n    generation: 12\n",
                "spec:\n  credentials:\n    # of 2\n    generation: 7\n",
            ),
            ("spec: { tier: free } # x\n", "spec: { credentials: { generation: 7 }, tier: free } # x\n"),
            ("spec: {tier: free}\n", "spec: { credentials: { generation: 7 },tier: free}\n"),
            (
                "spec: # all\n  # why\n  tier: free\n",
                "spec: # all\n  credentials: { generation: 7 }\n  # why\n  tier: free\n",
            ),
            ("spec:\r\n    tier: free\r\n", "spec:\r\n    credentials: { generation: 7 }\r\n    tier: free\r\n"),
        ] {
            // A tenant needs a tier.
            let tier =
                |text: &str| if text.contains("tier:") { text.to_owned() } else { format!("{text}  tier: free\n") };
            assert_eq!(edited(&tier(before)), Some(tier(after)), "{before}");
        }
    }

    #[test]
    fn a_layout_that_is_not_understood_is_left_to_a_person() {
        assert_eq!(edited("spec:\n  tier: free\n  credentials: {}\n"), None);
        assert_eq!(edited("spec:\n  { tier: free }\n").as_deref(), None);
    }
}
