//! Version 2 in protobuf (gnostic `openapiv2/OpenAPIv2.proto`), the form that kubectl before 1.27 and older clients read: to explain
//! kinds, and to check a file before they send it.
//!
//! Made of the document in JSON. What that never says has no number here.

use serde_json::Value;

use super::{Message, elements, entries};

/// A document of version 2.
pub(in super::super) fn version_2(document: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, &document["swagger"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    message.message(2, info);
    let mut paths = Message::default();
    for (path, item) in entries(&document["paths"]) {
        paths.named(2, path, path_item(item));
    }
    message.message(8, paths);
    let mut definitions = Message::default();
    for (name, of) in entries(&document["definitions"]) {
        definitions.named(1, name, schema(of));
    }
    message.message(9, definitions);
    message.bytes
}

fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    for (number, verb) in [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (6, "options"),
        (7, "head"),
        (8, "patch"),
    ] {
        if item[verb].is_object() {
            message.message(number, operation(&item[verb]));
        }
    }
    for of in elements(&item["parameters"]) {
        message.message(9, parameter(of));
    }
    message.extensions(10, item);
    message
}

fn operation(of: &Value) -> Message {
    let mut message = Message::default();
    message.texts(1, &of["tags"]);
    message.text(3, &of["description"]);
    message.text(5, &of["operationId"]);
    message.texts(6, &of["produces"]);
    message.texts(7, &of["consumes"]);
    for of in elements(&of["parameters"]) {
        message.message(8, parameter(of));
    }
    let mut responses = Message::default();
    for (code, of) in entries(&of["responses"]) {
        let mut response = Message::default();
        response.text(1, &of["description"]);
        if of["schema"].is_object() {
            response.message(2, Message::around(1, schema(&of["schema"])));
        }
        responses.named(1, code, Message::around(1, response));
    }
    message.message(9, responses);
    message.texts(10, &of["schemes"]);
    message.extensions(13, of);
    message
}

fn parameter(of: &Value) -> Message {
    let mut message = Message::default();
    if of["in"] == "body" {
        message.text(1, &of["description"]);
        message.text(2, &of["name"]);
        message.text(3, &of["in"]);
        message.flag(4, &of["required"]);
        message.message(5, schema(&of["schema"]));
        return Message::around(1, Message::around(1, message));
    }
    message.flag(1, &of["required"]);
    message.text(2, &of["in"]);
    message.text(3, &of["description"]);
    message.text(4, &of["name"]);
    // A parameter of the query may be empty, so that its numbers are later by one.
    let in_path = of["in"] == "path";
    message.text(if in_path { 5 } else { 6 }, &of["type"]);
    message.flag(if in_path { 19 } else { 20 }, &of["uniqueItems"]);
    let other = Message::around(if in_path { 4 } else { 3 }, message);
    Message::around(1, Message::around(2, other))
}

fn schema(of: &Value) -> Message {
    let mut message = Message::default();
    message.text(1, &of["$ref"]);
    message.text(2, &of["format"]);
    message.text(3, &of["title"]);
    message.text(4, &of["description"]);
    message.any(5, &of["default"]);
    for (number, field) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        message.double(number, &of[field]);
    }
    for (number, field) in [
        (8, "exclusiveMaximum"),
        (10, "exclusiveMinimum"),
        (16, "uniqueItems"),
        (27, "readOnly"),
    ] {
        message.flag(number, &of[field]);
    }
    for (number, field) in [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ] {
        message.whole(number, &of[field]);
    }
    message.text(13, &of["pattern"]);
    message.texts(19, &of["required"]);
    for value in elements(&of["enum"]) {
        message.any(20, value);
    }
    match &of["additionalProperties"] {
        Value::Object(_) => {
            let inner = schema(&of["additionalProperties"]);
            message.message(21, Message::around(1, inner));
        }
        Value::Bool(_) => {
            let mut inner = Message::default();
            inner.flag(2, &of["additionalProperties"]);
            message.message(21, inner);
        }
        _ => {}
    }
    if of["type"].is_string() {
        let mut inner = Message::default();
        inner.text(1, &of["type"]);
        message.message(22, inner);
    }
    if of["items"].is_object() {
        message.message(23, Message::around(1, schema(&of["items"])));
    }
    for of in elements(&of["allOf"]) {
        message.message(24, schema(of));
    }
    if of["properties"].is_object() {
        let mut properties = Message::default();
        for (name, of) in entries(&of["properties"]) {
            properties.named(1, name, schema(of));
        }
        message.message(25, properties);
    }
    message.extensions(31, of);
    message
}
