//! The bytes of protobuf: numbered values, one after the other (protobuf.dev, "Encoding").

use super::protobuf::DecodeError;

/// One value, not yet knowing what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Reads the values of one message. Checks every length before it takes anything.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next value with the number of its field; None at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or(DecodeError::Tag(tag))?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups, which Kubernetes never had.
            _ => return Err(DecodeError::Tag(tag)),
        };
        Ok(Some((number, wire)))
    }

    /// The varints of a packed list.
    pub(super) fn next_packed(&mut self) -> Result<Option<u64>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for (place, byte) in self.rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[place + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < VARINT_BYTES_MAX {
            DecodeError::Truncated
        } else {
            DecodeError::Overflow
        })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// 64 bits in groups of seven.
const VARINT_BYTES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_wire_type_are_read() {
        let mut reader = Reader::new(&[
            8, 0x96, 1, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1a, 2, b'h', b'i', 0x25, 2, 0, 0, 0,
        ]);
        for expected in [
            Some((1, Wire::Varint(150))),
            Some((2, Wire::Fixed64(1))),
            Some((3, Wire::Bytes(b"hi"))),
            Some((4, Wire::Fixed32(2))),
            None,
        ] {
            assert_eq!(reader.next().unwrap(), expected);
        }
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        for (bytes, expected) in [
            (&[8][..], DecodeError::Truncated),
            (&[8, 0x80], DecodeError::Truncated),
            (&[0x1a, 3, b'h', b'i'], DecodeError::Truncated),
            (
                &[0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                DecodeError::Truncated,
            ),
            (&[0x11, 1, 2], DecodeError::Truncated),
            (&[0x80; 11], DecodeError::Overflow),
            (&[0, 0], DecodeError::Tag(0)),
            (&[0x0b], DecodeError::Tag(0x0b)),
        ] {
            assert_eq!(Reader::new(bytes).next(), Err(expected), "{bytes:x?}");
        }
    }
}
