//! What messages are made of, as far as it takes memory: from the descriptors.

use std::collections::HashMap;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// A `Vec`, `String` or `BTreeMap` in a message, bytes.
const HANDLE: usize = 24;
/// A `Bytes` in a message, bytes.
const SHARED: usize = 32;
/// What a present value, a tag of a `oneof` or a pointer takes, bytes.
const WORD: usize = 8;

/// A message type.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Its value in memory without what it points to, bytes.
    #[cfg(test)]
    pub size: usize,
    /// Fields that take memory of their own, by number.
    pub fields: HashMap<u32, Field>,
}

/// A field that takes memory of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// Memory of the first element, bytes: lists and maps begin with room for several.
    pub first: usize,
    /// Memory of each further element, bytes.
    pub next: usize,
    /// Memory for each byte of an element's length.
    pub per_byte: usize,
    /// The type of the elements, where they are messages.
    pub child: Option<usize>,
    /// Position among the fields of the message.
    pub position: u32,
}

/// All message types.
#[derive(Debug)]
pub(super) struct Shapes {
    shapes: Vec<Shape>,
    by_name: HashMap<String, usize>,
}

impl Shapes {
    pub(super) fn new(files: &FileDescriptorSet) -> Self {
        let types = Types::new(files);
        let sizes: Vec<_> =
            (0..types.all.len()).map(|index| types.size(index, &mut vec![])).collect();
        let shapes = (0..types.all.len()).map(|index| types.shape(index, &sizes)).collect();
        Self { shapes, by_name: types.by_name }
    }

    pub(super) fn find(&self, package: &str, name: &str) -> Option<&Shape> {
        self.shapes.get(*self.by_name.get(&format!(".{package}.{name}"))?)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Shape> {
        self.shapes.get(index)
    }
}

/// The descriptors by name.
struct Types<'a> {
    all: Vec<&'a DescriptorProto>,
    by_name: HashMap<String, usize>,
}

impl<'a> Types<'a> {
    fn new(files: &'a FileDescriptorSet) -> Self {
        let mut types = Self { all: Vec::new(), by_name: HashMap::new() };
        for file in &files.file {
            let scope = format!(".{}", file.package());
            file.message_type.iter().for_each(|message| types.add(&scope, message));
        }
        types
    }

    fn add(&mut self, scope: &str, message: &'a DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        self.by_name.insert(name.clone(), self.all.len());
        self.all.push(message);
        message.nested_type.iter().for_each(|nested| self.add(&name, nested));
    }

    fn child(&self, field: &FieldDescriptorProto) -> Option<usize> {
        matches!(field.r#type(), Type::Message | Type::Group)
            .then(|| self.by_name.get(field.type_name()).copied())
            .flatten()
    }

    /// The size of a message's value; `within` are those that it is part of, as a message that
    /// holds itself is behind a pointer.
    fn size(&self, index: usize, within: &mut Vec<usize>) -> usize {
        if within.contains(&index) {
            return 0;
        }
        let Some(message) = self.all.get(index) else { return 0 };
        within.push(index);
        let mut alternatives = vec![0; message.oneof_decl.len()];
        let mut size = 0;
        for field in &message.field {
            let one = self.inline(field, within);
            match field.oneof_index.and_then(|index| alternatives.get_mut(index as usize)) {
                Some(largest) => *largest = one.max(*largest),
                None => size += one,
            }
        }
        within.pop();
        size + alternatives.iter().map(|largest| largest + WORD).sum::<usize>()
    }

    /// What a field takes within its message.
    fn inline(&self, field: &FieldDescriptorProto, within: &mut Vec<usize>) -> usize {
        if field.label() == Label::Repeated {
            return HANDLE;
        }
        match self.child(field) {
            Some(child) => WORD + self.size(child, within),
            None => scalar(field.r#type()),
        }
    }

    fn shape(&self, index: usize, sizes: &[usize]) -> Shape {
        let Some(message) = self.all.get(index) else { return Shape::default() };
        let fields = message.field.iter().enumerate();
        let fields = fields.filter_map(|(position, field)| {
            let number = u32::try_from(field.number()).ok()?;
            Some((number, self.field(position, field, sizes)?))
        });
        Shape {
            #[cfg(test)]
            size: sizes.get(index).copied().unwrap_or_default(),
            fields: fields.collect(),
        }
    }

    fn field(
        &self,
        position: usize,
        field: &FieldDescriptorProto,
        sizes: &[usize],
    ) -> Option<Field> {
        let position = u32::try_from(position).ok()?;
        let child = self.child(field);
        let is_text = field.r#type() == Type::String;
        let per_byte = usize::from(is_text);
        if field.label() != Label::Repeated {
            let takes = child.is_some() || is_text;
            return takes.then_some(Field { first: 0, next: 0, per_byte, child, position });
        }
        let size = match child {
            Some(child) => sizes.get(child).copied().unwrap_or_default().max(1),
            None => scalar(field.r#type()),
        };
        let is_map =
            child.and_then(|child| self.all.get(child)).is_some_and(|child| is_entry(child));
        // A list starts with room for four and doubles; a map's node has room for eleven.
        let (first, next) = if is_map { (11 * size, 2 * size) } else { (4 * size, 2 * size) };
        // Packed numbers: each byte can be one.
        let per_byte = if is_number(field.r#type()) { 2 * size } else { per_byte };
        Some(Field { first, next, per_byte, child, position })
    }
}

fn is_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn is_number(kind: Type) -> bool {
    !matches!(kind, Type::String | Type::Bytes | Type::Message | Type::Group)
}

fn scalar(kind: Type) -> usize {
    match kind {
        Type::String => HANDLE,
        Type::Bytes => SHARED,
        _ => WORD,
    }
}
