//! A list that is nearly always empty.

use std::ops::{Deref, DerefMut};

/// A list that is nearly always empty, and as small as a pointer until it is filled for the first time.
#[derive(Debug)]
#[allow(clippy::box_collection, reason = "there are many, and a vector takes three times as much in each")]
pub(crate) struct Seldom<T>(Option<Box<Vec<T>>>);

impl<T> Seldom<T> {
    /// The list, to be filled or emptied.
    pub(crate) fn list_mut(&mut self) -> &mut Vec<T> {
        self.0.get_or_insert_default()
    }
}

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for Seldom<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |list| list)
    }
}

impl<T> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_mut().map_or(&mut [], |list| list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list_once_it_is_filled_and_a_pointer_before() {
        let mut list = Seldom::default();
        assert!(list.is_empty());

        list.list_mut().extend([1, 2]);
        list[1] = 3;

        assert_eq!(*list, [1, 3]);
        assert_eq!(size_of_val(&list), size_of::<usize>());
    }
}
