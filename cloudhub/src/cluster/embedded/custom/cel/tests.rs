use serde_json::{Value, json};

use super::*;

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "name": {"type": "string"}, "count": {"type": "integer"}, "most": {"type": "integer"}, "ratio": {"type": "number"},
        "namespace": {"type": "string"}, "a-b": {"type": "string"}, "on": {"type": "boolean"},
        "port": {"x-kubernetes-int-or-string": true},
        "since": {"type": "string", "format": "date-time"}, "wait": {"type": "string", "format": "duration"},
        "list": {"type": "array", "items": {"type": "string"}},
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "numbers": {"type": "array", "items": {"type": "integer"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}}}})
}

fn object() -> Value {
    json!({"name": "web-1", "count": 3, "most": 5, "ratio": 1, "namespace": "d", "a-b": "x", "on": true, "port": "80%",
        "since": "2026-01-02T03:04:05Z", "wait": "1h30m", "list": ["a", "b", "c"], "set": ["x", "y"], "numbers": [1, 2, 3],
        "labels": {"app": "web", "x/y": "1"}, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 443}]})
}

fn evaluated(rule: &str, steps: u64) -> Result<Result<bool, Fault>, Refused> {
    let of = Type::of(&schema(), false, "object").unwrap();
    let object = object();
    let program = Program::new(rule, &of, false, &Type::Bool)?;
    let mut budget = Budget {
        steps,
        steps_each: steps,
    };
    Ok(program.holds(&of, &object, Old::Is(&object), &mut budget))
}

fn refused(rule: &str) -> String {
    match evaluated(rule, 1000) {
        Err(Refused::Wrong(text)) => text,
        other => panic!("{rule}: {other:?}"),
    }
}

#[test]
fn a_rule_says_what_a_kube_apiserver_says() {
    for rule in [
        "self.count <= self.most && self.name.startsWith('web')",
        "has(self.name) && !has(self.labels.nothing)",
        "self.__namespace__ == 'd' && self.a__dash__b == 'x'",
        "self.ratio == 1.0 && self.ratio < 2.5",
        "type(self.port) == string && self.port.matches(r'^\\d+%$')",
        "type(self.port) == int ? self.port < 5 : int(self.port.replace('%', '')) == 80",
        "self.since < timestamp('2026-02-01T00:00:00Z') && self.since.getFullYear() == 2026",
        "self.wait == duration('90m') && self.wait.getHours() == 1",
        "self.list.all(one, one.size() == 1) && self.list.exists(one, one == 'b') && self.list.exists_one(one, one > 'b')",
        "self.list.map(one, one + '!').join(',') == 'a!,b!,c!' && self.list.filter(one, one != 'a').size() == 2",
        "self.list.map(one, one != 'a', one) == ['b', 'c']",
        "self.labels.all(key, key.size() < 10) && self.labels['x/y'] == '1' && 'app' in self.labels && self.labels.app == 'web'",
        "self.labels.exists(key, self.labels[key] == 'web')",
        "self.set == ['y', 'x'] && self.set + ['x', 'z'] == ['x', 'y', 'z']",
        "self.ports.all(one, one.port > 0 && self.ports.exists_one(other, other.name == one.name))",
        "self.ports[1].name == 'b' && self.ports.map(one, one.port).max() == 443",
        "self.numbers.sum() == 6 && self.numbers.isSorted() && self.numbers.indexOf(3) == 2 && self.numbers.min() == 1",
        "self.?labels.?app.orValue('no') == 'web' && !self.?labels[?'no'].hasValue()",
        "self.?name.optMap(name, name + '!').value() == 'web-1!'",
        "[1, ?optional.none()].size() == 1 && '%s %d'.format(['a', 1]) == 'a 1' && [7, 8].last().value() == 8",
        "optional.of(1).hasValue() && optional.none().orValue(2) == 2",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1k') == quantity('1000') && isQuantity('5m') && !isQuantity('x')",
        "quantity('50k').add(20).asInteger() == 50020 && quantity('500m').asApproximateFloat() == 0.5 && !quantity('1m').isInteger()",
        "url('https://a.b:80/c?d=1').getHost() == 'a.b:80' && url('https://a.b:80/c').getPort() == '80' && !isURL('x')",
        "url('https://[::1]:80/c?d=1&d=2').getQuery()['d'] == ['1', '2'] && url('https://[::1]:80/').getHostname() == '::1'",
        "isIP('::1') && !isIP('1.2.3') && ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.1.1')",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.0.0/8').masked() == cidr('10.0.0.0/8') && string(ip('::1')) == '::1'",
        "!format.dns1123Label().validate('ab').hasValue() && format.dns1123Label().validate('A_').hasValue()",
        "'%s is %d of %.2f %x'.format([self.name, self.count, 1.5, 255]) == 'web-1 is 3 of 1.50 ff'",
        "'a,b,c'.split(',').size() == 3 && 'abc'.substring(1) == 'bc' && 'ABC'.lowerAscii() == 'abc' && 'abc'.charAt(1) == 'b'",
        "'abcabc'.indexOf('c', 3) == 5 && 'abcabc'.lastIndexOf('b') == 4 && ' x '.trim() == 'x' && 'x1y2'.findAll('[0-9]') == ['1', '2']",
        "sets.contains([1, 2], [1]) && sets.equivalent([1, 2], [2, 1]) && sets.intersects([1], [1, 3])",
        "self.list.all(index, one, index < 3 && one != '') && self.labels.transformList(key, value, key + value).size() == 2",
        "string(1.5) == '1.5' && double('2') == 2.0 && uint(3) == 3u && bool('true') && string(duration('90s')) == '90s'",
        "dyn(self.count) == 3 && 5 % 3 == 2 && -self.count == -3 && 7 / 2 == 3 && self.count in [1, 3]",
        "{'a': 1, 'b': 2}.b == 2 && {1: 'x'}[1] == 'x' && [[1], [2]].flatten() == [1, 2] && [3, 1].sort() == [1, 3]",
        "self.labels['none'] == 'x' || self.on",
        "self.count == 3 || self.labels['none'] == 'x'",
        "b'ab' == bytes('ab') && size('äö') == 2 && self == self && null == null",
    ] {
        assert_eq!(evaluated(rule, 10_000), Ok(Ok(true)), "{rule}");
    }
    assert_eq!(evaluated("self.count > self.most", 100), Ok(Ok(false)));
    for (rule, why) in [
        ("self.labels['none'] == 'x'", "no such key: none"),
        ("self.numbers[7] == 1", "index out of bounds: 7"),
        ("1 / (self.count - 3) == 1", "division by zero"),
        ("9223372036854775807 + self.count > 0", "integer overflow"),
        ("self.port < 5", "no such overload"),
    ] {
        assert_eq!(evaluated(rule, 100), Ok(Err(Fault::failed(why))), "{rule}");
    }
}

#[test]
fn a_rule_that_can_never_hold_is_refused_in_the_words_of_cel_go() {
    for (rule, said) in [
        (
            "self.nothing > 1",
            "ERROR: <input>:1:5: undefined field 'nothing'\n | self.nothing > 1\n | ....^",
        ),
        (
            "nothing == 1",
            "ERROR: <input>:1:1: undeclared reference to 'nothing' (in container '')\n | nothing == 1\n | ^",
        ),
        (
            "self.count > 'a'",
            "ERROR: <input>:1:12: found no matching overload for '_>_' applied to '(int, string)'\n | self.count > 'a'\n | ...........^",
        ),
        (
            "self.name.startsWith(1)",
            "ERROR: <input>:1:21: found no matching overload for 'startsWith' applied to 'string.(int)'\n | self.name.startsWith(1)\n | ....................^",
        ),
        (
            "self.name.fly()",
            "ERROR: <input>:1:14: undeclared reference to 'fly' (in container '')\n | self.name.fly()\n | .............^",
        ),
        (
            "self.all(one, one > 1)",
            "ERROR: <input>:1:1: expression of type 'object' cannot be range of a comprehension (must be list, map, or dynamic)\n | self.all(one, one > 1)\n | ^",
        ),
        (
            "has(self)",
            "ERROR: <input>:1:5: invalid argument to has() macro\n | has(self)\n | ....^",
        ),
        (
            "self.name.matches('(')",
            "ERROR: <input>:1:19: invalid matches argument\n | self.name.matches('(')\n | ..................^",
        ),
    ] {
        assert_eq!(refused(rule), said, "{rule}");
    }
    assert_eq!(evaluated("self.count", 10).unwrap_err(), Refused::OtherType);
    assert_eq!(
        evaluated("isSemver(self.name)", 10).unwrap_err(),
        Refused::Unknown("isSemver")
    );
}

#[test]
fn no_rule_costs_more_than_its_budget() {
    for rule in [
        "self.numbers.all(a, self.numbers.all(b, self.numbers.all(c, self.numbers.all(d, a + b + c + d > 0))))",
        "lists.range(1000000000).all(one, one >= 0)",
        "lists.range(400).map(one, 'x').join('yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy').size() > 0",
        "'x'.replace('', 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy').replace('', 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy').replace('', 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy') == ''",
    ] {
        let faults = [Fault::TooDear, Fault::Spent];
        let found = evaluated(rule, 300).unwrap().unwrap_err();
        assert!(faults.contains(&found), "{rule}: {found:?}");
    }
}
