#!/usr/bin/env python3
"""Writes a GraphQL introspection answer as SDL: names, types, default values and bare `@deprecated`, no descriptions.

    python3 tools/introspection_to_sdl.py INTROSPECTION.json > graphql/schema.graphql

Everything is sorted by name, so the same schema gives the same bytes whatever order the server listed it in.
"""

import json
import sys

BUILT_IN_SCALARS = {"Boolean", "Float", "ID", "Int", "String"}
BUILT_IN_DIRECTIVES = {"deprecated", "include", "oneOf", "skip", "specifiedBy"}
ROOTS = ("query", "mutation", "subscription")


def by_name(items):
    return sorted(items or [], key=lambda item: item["name"])


def type_text(reference):
    if reference["kind"] == "NON_NULL":
        return type_text(reference["ofType"]) + "!"
    if reference["kind"] == "LIST":
        return "[" + type_text(reference["ofType"]) + "]"
    return reference["name"]


def mark(item):
    return " @deprecated" if item.get("isDeprecated") else ""


def value_text(item):
    """An argument or an input field. Its default is already GraphQL text in the introspection."""
    default = item.get("defaultValue")
    default = "" if default is None else " = " + default
    return f"{item['name']}: {type_text(item['type'])}{default}{mark(item)}"


def arguments_text(arguments):
    return "(" + ", ".join(value_text(argument) for argument in by_name(arguments)) + ")" if arguments else ""


def field_text(field):
    return f"{field['name']}{arguments_text(field['args'])}: {type_text(field['type'])}{mark(field)}"


def block(head, lines):
    return head + " {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def fields_block(keyword, kind):
    interfaces = [interface["name"] for interface in by_name(kind["interfaces"])]
    implements = " implements " + " & ".join(interfaces) if interfaces else ""
    return block(f"{keyword} {kind['name']}{implements}", [field_text(field) for field in by_name(kind["fields"])])


def definition(kind):
    name = kind["name"]
    match kind["kind"]:
        case "SCALAR":
            return f"scalar {name}\n"
        case "ENUM":
            return block(f"enum {name}", [value["name"] + mark(value) for value in by_name(kind["enumValues"])])
        case "UNION":
            return f"union {name} = " + " | ".join(member["name"] for member in by_name(kind["possibleTypes"])) + "\n"
        case "INPUT_OBJECT":
            one_of = " @oneOf" if kind.get("isOneOf") else ""
            return block(f"input {name}{one_of}", [value_text(field) for field in by_name(kind["inputFields"])])
        case "INTERFACE":
            return fields_block("interface", kind)
        case "OBJECT":
            return fields_block("type", kind)
        case other:
            raise SystemExit(f"{name}: this tool does not know types of kind {other}")


def directive_text(directive):
    repeatable = " repeatable" if directive.get("isRepeatable") else ""
    locations = " | ".join(sorted(directive["locations"]))
    return f"directive @{directive['name']}{arguments_text(directive['args'])}{repeatable} on {locations}\n"


def schema_text(schema):
    roots = [f"{root}: {schema[root + 'Type']['name']}" for root in ROOTS if schema.get(root + "Type")]
    directives = [d for d in by_name(schema["directives"]) if d["name"] not in BUILT_IN_DIRECTIVES]
    types = [t for t in by_name(schema["types"]) if t["name"] not in BUILT_IN_SCALARS and not t["name"].startswith("__")]
    parts = [block("schema", roots)] + [directive_text(d) for d in directives] + [definition(t) for t in types]
    return "\n".join(parts)


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        answer = json.load(file)
    schema = answer.get("data", answer).get("__schema")
    if schema is None:
        raise SystemExit(f"{sys.argv[1]}: no `__schema` in it; expected the answer to an introspection query")
    sys.stdout.write(schema_text(schema))


if __name__ == "__main__":
    main()
