//! Where messages begin and end in the bytes of a call (gRPC over HTTP/2, Length-Prefixed-Message).

/// Bytes before each message: a flag and the length.
const HEADER: usize = 5;

/// How far a stream of messages has come.
#[derive(Debug, Default)]
pub(super) struct Framing {
    header: [u8; HEADER],
    /// Bytes of the header that have come.
    headed: usize,
    /// Length of the message that has begun.
    length: usize,
    /// Bytes of it that have come.
    come: usize,
    begun: u64,
}

/// The length of a message is above the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong {
    /// The length, bytes.
    pub length: usize,
}

impl Framing {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, mut data: &[u8], limit: usize) -> Result<(), TooLong> {
        while !data.is_empty() {
            data =
                if self.headed < HEADER { self.feed_header(data, limit)? } else { self.skip(data) };
            if self.headed == HEADER && self.come == self.length {
                (self.headed, self.length, self.come) = (0, 0, 0);
            }
        }
        Ok(())
    }

    fn feed_header<'a>(&mut self, data: &'a [u8], limit: usize) -> Result<&'a [u8], TooLong> {
        self.begun += u64::from(self.headed == 0);
        let missing = HEADER - self.headed;
        let (head, tail) = data.split_at(missing.min(data.len()));
        for byte in head {
            if let Some(place) = self.header.get_mut(self.headed) {
                *place = *byte;
            }
            self.headed += 1;
        }
        if self.headed == HEADER {
            let [_, length @ ..] = self.header;
            self.length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if self.length > limit {
                return Err(TooLong { length: self.length });
            }
        }
        Ok(tail)
    }

    fn skip<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let taken = data.len().min(self.length - self.come);
        self.come += taken;
        data.get(taken..).unwrap_or_default()
    }

    /// Bytes of a message that has begun and not ended; 0 between messages.
    pub(super) fn unfinished(&self) -> usize {
        self.headed + self.come
    }

    /// Messages that have begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend(vec![7; length]);
        bytes
    }

    #[test]
    fn messages_are_found_however_their_bytes_are_cut() {
        let bytes = [message(3), message(0), message(10)].concat();
        for cut in 1..bytes.len() {
            let mut framing = Framing::default();
            for part in bytes.chunks(cut) {
                framing.feed(part, 10).unwrap();
            }
            assert_eq!((framing.begun(), framing.unfinished()), (3, 0), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_unfinished_counts() {
        let mut framing = Framing::default();
        framing.feed(&message(100)[..60], 100).unwrap();
        assert_eq!((framing.begun(), framing.unfinished()), (1, 60));
        framing.feed(&message(100)[60..], 100).unwrap();
        framing.feed(&[0, 0], 100).unwrap();
        assert_eq!((framing.begun(), framing.unfinished()), (2, 2));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_at_the_header() {
        let long = message(101);
        assert_eq!(Framing::default().feed(&long[..5], 100), Err(TooLong { length: 101 }));
        assert_eq!(Framing::default().feed(&long[..4], 100), Ok(()));
    }
}
