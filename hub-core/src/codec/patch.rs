//! A content as the difference to one that the receiver holds, and compressed contents generally.
//!
//! Both are zstd frames; a difference has the base as its dictionary prefix. The work is done once for all receivers: a small
//! memo per worker thread keeps the last results, since a change goes out to all its nodes at about the same time.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;
use zstd::zstd_safe::{CCtx, CParameter, DCtx};

/// A content, told as a difference to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The [hash](content_hash) of the content it is a difference to.
    pub(super) base: u64,
    /// The size of the result; checked against the codec's limit when the frame was decoded.
    pub(super) size: usize,
    /// The difference. It carries a checksum of the result.
    pub(super) frame: Bytes,
}

/// The difference does not apply. The receiver refuses the message and gets the whole content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The receiver does not hold the content that the difference is to.
    #[error("the content this difference is to is not here")]
    Base,
    /// The result is not what the sender had.
    #[error("the result of the difference is not what the sender had")]
    Result,
}

impl Patch {
    /// The content, made out of the difference and the content it is to.
    pub fn apply(&self, base: &[u8]) -> Result<Bytes, PatchError> {
        if content_hash(base) != self.base {
            return Err(PatchError::Base);
        }
        unpack(&self.frame, Some(base), self.size).ok_or(PatchError::Result)
    }
}

/// A hash of a content that both ends compute alike (XXH3, 64 bits).
pub fn content_hash(content: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(content)
}

/// The content as a zstd frame, against `base` if there is one. None where that would not be smaller.
pub(super) fn pack(content: &Bytes, base: Option<&Bytes>) -> Option<Bytes> {
    MEMO.with_borrow_mut(|memo| {
        if let Some(known) = memo
            .iter()
            .find(|m| same(&m.content, content) && same_base(&m.base, base))
        {
            return known.packed.clone();
        }
        let packed = compress(content, base.map(|b| b.as_ref())).filter(|p| p.len() < content.len());
        if content.len() <= MEMO_CONTENT_MAX {
            if memo.len() == MEMO_MAX {
                memo.pop_front();
            }
            memo.push_back(Memo {
                content: content.clone(),
                base: base.cloned(),
                packed: packed.clone(),
            });
        }
        packed
    })
}

/// The content of a zstd frame. None when the frame is damaged or does not hold exactly `size` bytes; not more is allocated.
pub(super) fn unpack(frame: &[u8], base: Option<&[u8]>, size: usize) -> Option<Bytes> {
    let mut out = Vec::with_capacity(size);
    let mut context = DCtx::try_create()?;
    if let Some(base) = base {
        context.ref_prefix(base).ok()?;
    }
    context.decompress(&mut out, frame).ok()?;
    (out.len() == size).then(|| out.into())
}

fn compress(content: &[u8], base: Option<&[u8]>) -> Option<Bytes> {
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(content.len()));
    match base {
        // A context that refers to a base lives no longer than the base.
        Some(base) => {
            let mut context = context(true)?;
            context.ref_prefix(base).ok()?;
            context.compress2(&mut out, content).ok()?;
        }
        None => CONTEXT
            .with_borrow_mut(|kept| {
                if kept.is_none() {
                    *kept = context(false);
                }
                kept.as_mut()?.compress2(&mut out, content).ok()
            })
            .map(drop)?,
    }
    out.shrink_to_fit();
    Some(out.into())
}

fn context<'a>(checksum: bool) -> Option<CCtx<'a>> {
    let mut context = CCtx::try_create()?;
    context.set_parameter(CParameter::CompressionLevel(LEVEL)).ok()?;
    // The size travels in the envelope; the checksum proves a difference.
    context.set_parameter(CParameter::ContentSizeFlag(false)).ok()?;
    context.set_parameter(CParameter::ChecksumFlag(checksum)).ok()?;
    Some(context)
}

/// Whether two handles share the very same bytes. The memo holds one of them, so the address cannot be reused.
fn same(a: &Bytes, b: &Bytes) -> bool {
    a.as_ptr() == b.as_ptr() && a.len() == b.len()
}

fn same_base(a: &Option<Bytes>, b: Option<&Bytes>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => same(a, b),
        _ => false,
    }
}

struct Memo {
    content: Bytes,
    base: Option<Bytes>,
    packed: Option<Bytes>,
}

thread_local! {
    static MEMO: RefCell<VecDeque<Memo>> = const { RefCell::new(VecDeque::new()) };
    /// One for each worker, not for each connection: it is hundreds of kilobytes.
    static CONTEXT: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
}

/// Results kept per thread: as many changes as are usually under way to many nodes at once.
const MEMO_MAX: usize = 8;
/// The largest content kept in the memo, so that a thread holds at most 4 MiB of contents for it.
const MEMO_CONTENT_MAX: usize = 512 << 10;
/// zstd's level: 3 compresses a pod to about a third in 10 µs.
const LEVEL: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(version: u32) -> Bytes {
        let env: String = (0..60)
            .map(|i| format!(r#"{{"name":"V{i}","value":"{}"}},"#, i * 7919))
            .collect();
        format!(r#"{{"metadata":{{"resourceVersion":"{version}"}},"env":[{env}0]}}"#).into()
    }

    #[test]
    fn a_small_change_is_a_small_difference() {
        let (old, new) = (pod(1), pod(2));
        let frame = pack(&new, Some(&old)).unwrap();
        assert!(frame.len() < 60, "{} bytes", frame.len());
        let patch = Patch {
            base: content_hash(&old),
            size: new.len(),
            frame,
        };
        assert_eq!(patch.apply(&old).unwrap(), new);
    }

    #[test]
    fn a_difference_to_something_else_is_refused() {
        let (old, new) = (pod(1), pod(2));
        let mut patch = Patch {
            base: content_hash(&old),
            size: new.len(),
            frame: pack(&new, Some(&old)).unwrap(),
        };
        assert_eq!(patch.apply(b"other"), Err(PatchError::Base));
        let foreign = vec![b'x'; old.len()];
        patch.base = content_hash(&foreign);
        assert_eq!(patch.apply(&foreign), Err(PatchError::Result));
        patch.base = content_hash(&old);
        patch.size -= 1;
        assert_eq!(patch.apply(&old), Err(PatchError::Result));
    }

    #[test]
    fn the_same_change_is_packed_once_for_all_its_receivers() {
        let (old, new) = (pod(4), pod(5));
        let first = pack(&new, Some(&old)).unwrap();
        assert!(same(&first, &pack(&new.clone(), Some(&old.clone())).unwrap()));
    }

    #[test]
    fn what_does_not_shrink_stays_as_it_is() {
        let noise: Vec<u8> = (0..20u64)
            .flat_map(|i| content_hash(&i.to_le_bytes()).to_le_bytes())
            .collect();
        assert_eq!(pack(&noise.into(), None), None);
    }
}
