//! What happens at random, and yet the same in every run.

/// Numbers that follow from a seed: splitmix64 (Steele, Lea and Flood, 2014).
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below another.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    /// One of a few, of which the first is as likely as the other ones together.
    pub fn mostly<T: Copy>(&mut self, values: &[T]) -> T {
        match self.one_in(2) {
            true => values[0],
            false => self.of(values),
        }
    }

    /// One of a few.
    pub fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// A few of a few, some of them twice.
    pub fn some<T: Copy>(&mut self, values: &[T], most: usize) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| self.of(values)).collect()
    }

    pub fn texts(&mut self, values: &[&str], most: usize) -> Vec<String> {
        self.some(values, most).into_iter().map(str::to_owned).collect()
    }
}
