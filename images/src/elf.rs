//! The few facts of an ELF file that an image depends on: its loader, the libraries it needs and
//! whether symbols are left in it. Only 64-bit little-endian files are read (System V ABI, chapters
//! 4 and 5).

use std::ops::Range;

const MAGIC: &[u8] = b"\x7fELF";
const SECTION_SYMTAB: u32 = 2;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_DYNAMIC: u32 = 2;
const SEGMENT_INTERPRETER: u32 = 3;
const TAG_NEEDED: u64 = 1;
const TAG_STRING_TABLE: u64 = 5;
const TAG_SONAME: u64 = 14;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// Path of the dynamic loader; absent in libraries and static programs.
    pub interpreter: Option<String>,
    /// File names of the libraries it links.
    pub needed: Vec<String>,
    /// The name that others link it by.
    pub soname: Option<String>,
    /// Whether the symbol table that debuggers use is still there.
    pub symbols: bool,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Not a 64-bit little-endian ELF file.
    #[error("failed to read the ELF header: not a 64-bit little-endian file")]
    Class,
    /// A table or a string lies outside the file.
    #[error("failed to read the ELF file: its {part} lies outside of it")]
    Outside {
        /// Which part.
        part: &'static str,
    },
}

/// Whether `bytes` begin as ELF files do.
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads a file.
///
/// # Errors
///
/// When it is not ELF of the supported class, or a table points out of it.
pub fn parse(bytes: &[u8]) -> Result<Elf, ElfError> {
    if !is_elf(bytes) || bytes.get(4..6) != Some(&[2, 1]) {
        return Err(ElfError::Class);
    }
    let file = File(bytes);
    let segments = file.segments()?;
    let mut elf = Elf { symbols: file.has_symbols()?, ..Elf::default() };
    if let Some(segment) = segments.iter().find(|segment| segment.kind == SEGMENT_INTERPRETER) {
        elf.interpreter = Some(file.string(segment.offset, "interpreter")?);
    }
    if let Some(segment) = segments.iter().find(|segment| segment.kind == SEGMENT_DYNAMIC) {
        file.dynamic(segment, &segments, &mut elf)?;
    }
    Ok(elf)
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

struct File<'a>(&'a [u8]);

impl File<'_> {
    fn number<const N: usize>(&self, at: u64, part: &'static str) -> Result<[u8; N], ElfError> {
        let outside = ElfError::Outside { part };
        let Ok(at) = usize::try_from(at) else { return Err(outside) };
        let bytes = at.checked_add(N).and_then(|end| self.0.get(Range { start: at, end }));
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(outside)
    }

    fn u16(&self, at: u64, part: &'static str) -> Result<u16, ElfError> {
        self.number(at, part).map(u16::from_le_bytes)
    }

    fn u32(&self, at: u64, part: &'static str) -> Result<u32, ElfError> {
        self.number(at, part).map(u32::from_le_bytes)
    }

    fn u64(&self, at: u64, part: &'static str) -> Result<u64, ElfError> {
        self.number(at, part).map(u64::from_le_bytes)
    }

    fn string(&self, at: u64, part: &'static str) -> Result<String, ElfError> {
        let outside = || ElfError::Outside { part };
        let start = usize::try_from(at).map_err(|_| outside())?;
        let rest = self.0.get(start..).ok_or_else(outside)?;
        let end = rest.iter().position(|byte| *byte == 0).ok_or_else(outside)?;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    /// Positions of the entries of a header table.
    fn table(&self, offset: u64, size: u16, count: u16) -> Result<Vec<u64>, ElfError> {
        (0..u64::from(count))
            .map(|i| (u64::from(size) * i).checked_add(offset))
            .collect::<Option<_>>()
            .ok_or(ElfError::Outside { part: "header table" })
    }

    fn segments(&self) -> Result<Vec<Segment>, ElfError> {
        const PART: &str = "program header";
        let offset = self.u64(32, PART)?;
        let (size, count) = (self.u16(54, PART)?, self.u16(56, PART)?);
        let mut segments = Vec::new();
        for at in self.table(offset, size, count)? {
            // The farthest field first: the others are inside when it is.
            let size = self.u64(at.saturating_add(32), PART)?;
            segments.push(Segment {
                kind: self.u32(at, PART)?,
                offset: self.u64(at + 8, PART)?,
                address: self.u64(at + 16, PART)?,
                size,
            });
        }
        Ok(segments)
    }

    fn has_symbols(&self) -> Result<bool, ElfError> {
        const PART: &str = "section header";
        let offset = self.u64(40, PART)?;
        let (size, count) = (self.u16(58, PART)?, self.u16(60, PART)?);
        for at in self.table(offset, size, count)? {
            if self.u32(at.saturating_add(4), PART)? == SECTION_SYMTAB {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn dynamic(
        &self,
        dynamic: &Segment,
        segments: &[Segment],
        elf: &mut Elf,
    ) -> Result<(), ElfError> {
        const PART: &str = "dynamic section";
        let mut entries = Vec::new();
        for i in 0..dynamic.size / 16 {
            let at = dynamic.offset.saturating_add(i * 16);
            let value = self.u64(at.saturating_add(8), PART)?;
            match self.u64(at, PART)? {
                0 => break,
                tag => entries.push((tag, value)),
            }
        }
        let Some((_, address)) = entries.iter().find(|(tag, _)| *tag == TAG_STRING_TABLE) else {
            return Ok(());
        };
        // The table is given as an address in memory; a loaded segment says where that is.
        let strings = segments
            .iter()
            .filter(|segment| segment.kind == SEGMENT_LOAD)
            .find_map(|segment| {
                let inside = address.checked_sub(segment.address)?;
                (inside < segment.size).then(|| segment.offset.checked_add(inside)).flatten()
            })
            .ok_or(ElfError::Outside { part: "string table" })?;
        for (tag, value) in entries {
            let name = || self.string(strings.saturating_add(value), "string table");
            match tag {
                TAG_NEEDED => elf.needed.push(name()?),
                TAG_SONAME => elf.soname = Some(name()?),
                _ => {}
            }
        }
        Ok(())
    }
}
