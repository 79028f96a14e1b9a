//! The bytes of protobuf: numbered values, one after the other (protobuf.dev, "Encoding").

/// Wire types.
pub(super) const VARINT: u32 = 0;
pub(super) const FIXED64: u32 = 1;
pub(super) const BYTES: u32 = 2;

pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    varint(out, u64::from(number << 3 | wire));
}

pub(super) fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    tag(out, number, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Negative numbers are their two's complement in 64 bits.
pub(super) fn int(out: &mut Vec<u8>, number: u32, value: i64) {
    tag(out, number, VARINT);
    varint(out, value as u64);
}

/// Opens a value whose length is not known yet. [`close`] takes what this gives.
pub(super) fn open(out: &mut Vec<u8>, number: u32) -> usize {
    tag(out, number, BYTES);
    out.len()
}

/// Puts the length of all that was written since in front of it.
pub(super) fn close(out: &mut Vec<u8>, content: usize) {
    let end = out.len();
    varint(out, (end - content) as u64);
    // The length stands behind the content now; most often it is one or two bytes.
    let length = out.len() - end;
    out[content..].rotate_right(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_goes_in_front_of_what_was_written_since() {
        let mut out = vec![9];
        let content = open(&mut out, 1);
        out.extend_from_slice(&[7; 200]);
        close(&mut out, content);
        assert_eq!(out[..5], [9, 0x0a, 200, 1, 7]);
        assert_eq!(out.len(), 204);
    }

    #[test]
    fn negative_numbers_take_ten_bytes() {
        let mut out = Vec::new();
        int(&mut out, 2, -1);
        assert_eq!(out, [16, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    }
}
