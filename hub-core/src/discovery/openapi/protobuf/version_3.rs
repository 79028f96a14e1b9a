//! Version 3 in protobuf, which kubectl reads to learn what a server does with a file before it sends it (`kubectl apply
//! --dry-run=server`, field validation).
//!
//! Made of the document in JSON. What that never says has no number here.

use serde_json::Value;

use super::{Message, elements, entries};

/// A document of version 3.
pub(in super::super) fn version_3(document: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, &document["openapi"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(6, &document["info"]["version"]);
    message.message(2, info);
    let mut paths = Message::default();
    for (path, item) in entries(&document["paths"]) {
        paths.named(1, path, path_item(item));
    }
    message.message(4, paths);
    if document["components"].is_object() {
        let mut components = Message::default();
        if document["components"]["schemas"].is_object() {
            components.message(1, schemas(&document["components"]["schemas"]));
        }
        message.message(5, components);
    }
    message.bytes
}

fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    for (number, verb) in [
        (4, "get"),
        (5, "put"),
        (6, "post"),
        (7, "delete"),
        (8, "options"),
        (9, "head"),
        (10, "patch"),
    ] {
        if item[verb].is_object() {
            message.message(number, operation(&item[verb]));
        }
    }
    for of in elements(&item["parameters"]) {
        message.message(13, Message::around(1, parameter(of)));
    }
    message.extensions(14, item);
    message
}

fn operation(of: &Value) -> Message {
    let mut message = Message::default();
    message.texts(1, &of["tags"]);
    message.text(3, &of["description"]);
    message.text(5, &of["operationId"]);
    for of in elements(&of["parameters"]) {
        message.message(6, Message::around(1, parameter(of)));
    }
    if of["requestBody"].is_object() {
        let mut body = Message::default();
        body.message(2, content(&of["requestBody"]["content"]));
        message.message(7, Message::around(1, body));
    }
    let mut responses = Message::default();
    for (code, of) in entries(&of["responses"]) {
        let mut response = Message::default();
        response.text(1, &of["description"]);
        if of["content"].is_object() {
            response.message(3, content(&of["content"]));
        }
        responses.named(2, code, Message::around(1, response));
    }
    message.message(8, responses);
    message.extensions(13, of);
    message
}

/// What is sent or answered, by its type.
fn content(of: &Value) -> Message {
    let mut message = Message::default();
    for (media, of) in entries(of) {
        message.named(1, media, Message::around(1, either(&of["schema"])));
    }
    message
}

fn parameter(of: &Value) -> Message {
    let mut message = Message::default();
    message.text(1, &of["name"]);
    message.text(2, &of["in"]);
    message.text(3, &of["description"]);
    message.flag(4, &of["required"]);
    if of["schema"].is_object() {
        message.message(10, either(&of["schema"]));
    }
    message
}

fn schemas(of: &Value) -> Message {
    let mut message = Message::default();
    for (name, of) in entries(of) {
        message.named(1, name, either(of));
    }
    message
}

/// A schema, or where it stands.
fn either(of: &Value) -> Message {
    if of["$ref"].is_string() {
        let mut reference = Message::default();
        reference.text(1, &of["$ref"]);
        return Message::around(2, reference);
    }
    Message::around(1, schema(of))
}

fn schema(of: &Value) -> Message {
    let mut message = Message::default();
    for (number, field) in [(1, "nullable"), (3, "readOnly"), (12, "exclusiveMaximum")] {
        message.flag(number, &of[field]);
    }
    message.text(9, &of["title"]);
    for (number, field) in [(10, "multipleOf"), (11, "maximum"), (13, "minimum")] {
        message.double(number, &of[field]);
    }
    message.flag(14, &of["exclusiveMinimum"]);
    message.whole(15, &of["maxLength"]);
    message.whole(16, &of["minLength"]);
    message.text(17, &of["pattern"]);
    message.whole(18, &of["maxItems"]);
    message.whole(19, &of["minItems"]);
    message.flag(20, &of["uniqueItems"]);
    message.whole(21, &of["maxProperties"]);
    message.whole(22, &of["minProperties"]);
    message.texts(23, &of["required"]);
    for value in elements(&of["enum"]) {
        message.any(24, value);
    }
    message.text(25, &of["type"]);
    for (number, field) in [(26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        for of in elements(&of[field]) {
            message.message(number, either(of));
        }
    }
    if of["not"].is_object() {
        message.message(29, schema(&of["not"]));
    }
    if of["items"].is_object() {
        message.message(30, Message::around(1, either(&of["items"])));
    }
    if of["properties"].is_object() {
        message.message(31, schemas(&of["properties"]));
    }
    match &of["additionalProperties"] {
        Value::Object(_) => message.message(32, Message::around(1, either(&of["additionalProperties"]))),
        Value::Bool(_) => {
            let mut inner = Message::default();
            inner.flag(2, &of["additionalProperties"]);
            message.message(32, inner);
        }
        _ => {}
    }
    // Defaults of other types have no place in this form.
    let mut default = Message::default();
    default.double(1, &of["default"]);
    default.flag(2, &of["default"]);
    default.text(3, &of["default"]);
    if !default.bytes.is_empty() {
        message.message(33, default);
    }
    message.text(34, &of["description"]);
    message.text(35, &of["format"]);
    message.extensions(36, of);
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The numbers of gnostic's `openapiv3/OpenAPIv3.proto`.
    #[test]
    fn every_verb_of_a_path_has_its_number() {
        for (number, verb) in [
            (4, "get"),
            (5, "put"),
            (6, "post"),
            (7, "delete"),
            (8, "options"),
            (9, "head"),
            (10, "patch"),
        ] {
            let document = json!({ "openapi": "3.0.0", "paths": { "/a": { verb: { "tags": ["t"] } } } });
            // With answers that say nothing, which a document cannot be without.
            let operation = [0x0a, 1, b't', 0x42, 0];
            let item = [&[number << 3 | 2, 5], &operation[..]].concat();
            let named = [&[0x0a, 2, b'/', b'a', 0x12, 7], &item[..]].concat();
            let paths = [&[0x22, 15, 0x0a, 13], &named[..]].concat();
            let bytes = version_3(&document);
            assert!(bytes.ends_with(&paths), "{verb}: {bytes:02x?}");
        }
    }
}
