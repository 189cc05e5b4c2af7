//! Storage for the nodes of a tree, which gives memory back when a container has fewer processes.
//!
//! The nodes are in blocks of fixed size. A block is freed when its last node goes, so that an
//! index stays valid and nothing moves. New nodes fill the first block that has room, so that the
//! last blocks empty.

use std::num::NonZeroU32;

/// How many nodes a block has: one for each bit of [`Block::used`].
const NODES: usize = u32::BITS as usize;

/// The position of a node. It is reused once the node is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Index(
    /// One more than the position, so that an `Option` of it needs no more memory.
    NonZeroU32,
);

#[derive(Debug)]
pub(super) struct Nodes<T> {
    blocks: Vec<Option<Box<Block<T>>>>,
    /// All blocks before this one are full.
    first_with_room: usize,
    /// How many blocks have no node. One is kept, so that a process that comes and goes at a full
    /// block does not allocate each time.
    empty: usize,
    length: usize,
}

#[derive(Debug)]
struct Block<T> {
    used: u32,
    nodes: [Option<T>; NODES],
}

impl<T> Default for Nodes<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), first_with_room: 0, empty: 0, length: 0 }
    }
}

impl Index {
    fn new(block: usize, place: usize) -> Option<Self> {
        Some(Self(NonZeroU32::new(u32::try_from(block * NODES + place + 1).ok()?)?))
    }

    fn block_and_place(self) -> (usize, usize) {
        let position = self.0.get() as usize - 1;
        (position / NODES, position % NODES)
    }
}

impl<T> Nodes<T> {
    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds a node; `None` where no index is left.
    pub(super) fn add(&mut self, node: T) -> Option<Index> {
        let has_room =
            |block: &Option<Box<Block<T>>>| block.as_ref().is_none_or(|block| block.used != !0);
        while self.blocks.get(self.first_with_room).is_some_and(|block| !has_room(block)) {
            self.first_with_room += 1;
        }
        let number = self.first_with_room;
        if number == self.blocks.len() {
            self.blocks.push(None);
        }
        let block = self.blocks[number].get_or_insert_with(|| {
            self.empty += 1;
            Box::new(Block { used: 0, nodes: [const { None }; NODES] })
        });
        let place = block.used.trailing_ones() as usize;
        let index = Index::new(number, place)?;
        self.empty -= usize::from(block.used == 0);
        block.used |= 1 << place;
        block.nodes[place] = Some(node);
        self.length += 1;
        Some(index)
    }

    /// Removes a node, and frees its block if that is empty.
    pub(super) fn remove(&mut self, index: Index) -> Option<T> {
        let (number, place) = index.block_and_place();
        let slot = self.blocks.get_mut(number)?;
        let block = slot.as_mut()?;
        let node = block.nodes[place].take()?;
        block.used &= !(1 << place);
        self.length -= 1;
        self.first_with_room = self.first_with_room.min(number);
        if block.used == 0 {
            if self.empty == 0 {
                self.empty = 1;
            } else {
                *slot = None;
                while let Some(None) = self.blocks.last() {
                    self.blocks.pop();
                }
            }
        }
        Some(node)
    }

    pub(super) fn get(&self, index: Index) -> Option<&T> {
        let (number, place) = index.block_and_place();
        self.blocks.get(number)?.as_ref()?.nodes[place].as_ref()
    }

    pub(super) fn get_mut(&mut self, index: Index) -> Option<&mut T> {
        let (number, place) = index.block_and_place();
        self.blocks.get_mut(number)?.as_mut()?.nodes[place].as_mut()
    }

    /// All nodes, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Index, &T)> {
        self.blocks.iter().enumerate().flat_map(|(number, block)| {
            let nodes = block.iter().flat_map(|block| block.nodes.iter().enumerate());
            nodes
                .filter_map(move |(place, node)| Some((Index::new(number, place)?, node.as_ref()?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check against a map what a long random use leaves, and that empty blocks are freed.
    #[test]
    fn blocks_are_filled_from_the_front_and_freed() {
        let mut nodes = Nodes::default();
        let mut known = std::collections::HashMap::new();
        let mut random = 1_u64;
        for step in 0..100_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Grows for a while, then shrinks.
            let grows = (random >> 33) % 100 < if step % 20_000 < 10_000 { 60 } else { 40 };
            if grows || known.is_empty() {
                let index = nodes.add(step).expect("there is room");
                assert!(known.insert(index, step).is_none(), "{index:?} was in use");
            } else {
                let index = *known.keys().next().expect("not empty");
                assert_eq!(nodes.remove(index), known.remove(&index));
                assert_eq!(nodes.get(index), None);
            }
            assert_eq!(nodes.len(), known.len());
        }
        let mut found: Vec<_> = nodes.iter().map(|(index, node)| (index, *node)).collect();
        assert_eq!(found.len(), known.len());
        for (index, node) in found.drain(..) {
            assert_eq!(known.remove(&index), Some(node));
            assert_eq!(nodes.remove(index), Some(node));
        }
        let allocated = nodes.blocks.iter().flatten().count();
        assert!(allocated <= 1 && nodes.empty == allocated, "{allocated} blocks are left");
        assert!(nodes.blocks.len() <= 3126 && nodes.first_with_room == 0);
    }
}
