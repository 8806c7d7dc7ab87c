use super::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

fn code(data: u16, parity: u16) -> Code {
    Code::try_new(data, parity).unwrap()
}

fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(3).fill_bytes(&mut bytes);
    bytes
}

fn parity(coder: &Coder, data: &[u8]) -> Vec<u8> {
    let mut parity = vec![0; data.len() / coder.code().data() * coder.code().parity()];
    coder.parity_into(data, &mut parity).unwrap();
    parity
}

/// The field and the matrix as the page says them, slow and obvious.
mod model {
    pub(super) fn multiply(mut a: u8, mut b: u8) -> u8 {
        let mut product = 0;
        while b > 0 {
            if b & 1 == 1 {
                product ^= a;
            }
            let carry = a & 0x80 != 0;
            a <<= 1;
            if carry {
                a ^= 0x1d;
            }
            b >>= 1;
        }
        product
    }

    fn power(base: u8, exponent: usize) -> u8 {
        (0..exponent).fold(1, |value, _| multiply(value, base))
    }

    fn inverse(a: u8) -> u8 {
        (1..=255).find(|b| multiply(a, *b) == 1).unwrap()
    }

    /// Gauss and Jordan.
    fn invert(mut matrix: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let size = matrix.len();
        for (at, row) in matrix.iter_mut().enumerate() {
            row.extend((0..size).map(|column| u8::from(column == at)));
        }
        for pivot in 0..size {
            let swap = (pivot..size).find(|row| matrix[*row][pivot] != 0).unwrap();
            matrix.swap(pivot, swap);
            let scale = inverse(matrix[pivot][pivot]);
            matrix[pivot].iter_mut().for_each(|value| *value = multiply(*value, scale));
            let pivot_row = matrix[pivot].clone();
            for (at, row) in matrix.iter_mut().enumerate().filter(|(at, _)| *at != pivot) {
                let factor = row[pivot];
                let _ = at;
                row.iter_mut().zip(&pivot_row).for_each(|(value, other)| *value ^= multiply(*other, factor));
            }
        }
        matrix.into_iter().map(|row| row[size..].to_vec()).collect()
    }

    /// Row `row` of the Vandermonde matrix times the inverse of its top square.
    pub(super) fn rows(data: usize, shards: usize) -> Vec<Vec<u8>> {
        let vandermonde: Vec<Vec<u8>> = (0..shards)
            .map(|row| (0..data).map(|column| power(u8::try_from(row).unwrap(), column)).collect())
            .collect();
        let inverse = invert(vandermonde[..data].to_vec());
        let times = |row: &Vec<u8>| {
            (0..data).map(|column| (0..data).fold(0, |sum, i| sum ^ multiply(row[i], inverse[i][column]))).collect()
        };
        vandermonde.iter().map(times).collect()
    }

    pub(super) fn parity(data: &[u8], k: usize, n: usize) -> Vec<u8> {
        let length = data.len() / k;
        let byte = |row: &Vec<u8>, at: usize| (0..k).fold(0, |sum, i| sum ^ multiply(row[i], data[i * length + at]));
        rows(k, n)[k..].iter().flat_map(|row| (0..length).map(move |at| byte(row, at))).collect()
    }
}

#[test]
fn parity_agrees_with_the_field_and_matrix_of_the_page() {
    for (k, m) in [(1, 0), (1, 1), (1, 3), (2, 1), (2, 2), (3, 2), (4, 2), (6, 3), (10, 4), (17, 3), (100, 20)] {
        let data = random(usize::from(k) * 37);
        let expected = model::parity(&data, k.into(), (k + m).into());
        assert_eq!(parity(&Coder::new(code(k, m)), &data), expected, "{k}+{m}");
    }
}

/// `TestOneEncode` of Backblaze's `JavaReedSolomon` and klauspost/reedsolomon.
#[test]
fn parity_agrees_with_other_tools() {
    let parity = parity(&Coder::new(code(5, 5)), &[0, 1, 4, 5, 2, 3, 6, 7, 8, 9]);
    assert_eq!(parity, [12, 13, 10, 11, 14, 15, 90, 91, 94, 95]);
}

/// R2: wide enough for several columns, and not a multiple of any.
#[test]
fn columns_do_not_show() {
    let length = 300_001;
    let data = random(4 * length);
    let coder = Coder::new(code(4, 2));
    let whole = parity(&coder, &data);
    for at in [0, 1, 43_711, 43_712, 200_000, length - 1] {
        let column: Vec<u8> = (0..4).map(|run| data[run * length + at]).collect();
        assert_eq!(parity(&coder, &column), [whole[at], whole[length + at]], "byte {at}");
    }
}

/// R1, exhaustively: every set of lost runs, every code of at most nine.
#[test]
fn every_erasure_pattern_of_small_codes_is_repaired_or_refused() {
    for n in 1..=9_u16 {
        for k in 1..=n {
            check_all_patterns(code(k, n - k), 29);
        }
    }
}

fn check_all_patterns(code: Code, length: usize) {
    let coder = Coder::new(code);
    let data = random(code.data() * length);
    let all = [data.clone(), parity(&coder, &data)].concat();
    let runs: Vec<&[u8]> = all.chunks(length).collect();
    for lost in 0..1_u32 << code.shards() {
        let mut out = vec![0; all.len()];
        let mut offered: Vec<Run<'_>> = out
            .chunks_mut(length)
            .enumerate()
            .map(|(at, part)| if lost >> at & 1 == 1 { Run::Wanted(part) } else { Run::Given(runs[at]) })
            .collect();
        let result = coder.reconstruct(&mut offered);
        let lost_count = lost.count_ones() as usize;
        if lost_count > code.parity() {
            let found = code.shards() - lost_count;
            assert_eq!(result, Err(CodingError::TooFew { code, found }), "{code} {lost:b}");
            continue;
        }
        result.unwrap();
        for (at, part) in out.chunks(length).enumerate().filter(|(at, _)| lost >> at & 1 == 1) {
            assert_eq!(part, runs[at], "{code} {lost:b} run {at}");
        }
    }
}

#[test]
fn only_what_is_wanted_is_computed_over_many_columns() {
    let length = 150_001;
    let data = random(4 * length);
    let coder = Coder::new(code(4, 3));
    let all = [data.clone(), parity(&coder, &data)].concat();
    let run = |at: usize| &all[at * length..(at + 1) * length];
    let (mut one, mut five) = (vec![0; length], vec![0; length]);
    let mut runs = [
        Run::Given(run(0)),
        Run::Wanted(&mut one),
        Run::Given(run(2)),
        Run::Absent,
        Run::Given(run(4)),
        Run::Wanted(&mut five),
        Run::Given(run(6)),
    ];
    coder.reconstruct(&mut runs).unwrap();
    assert_eq!((&one[..], &five[..]), (run(1), run(5)));
}

#[test]
fn runs_that_do_not_fit_are_refused() {
    let coder = Coder::new(code(2, 1));
    assert!(matches!(coder.parity_into(&[0; 3], &mut [0]), Err(CodingError::Length { .. })));
    assert!(matches!(
        coder.parity_into(&[0; 4], &mut [0; 3]),
        Err(CodingError::Length { run: 2, found: 3, expected: 2 })
    ));
    assert!(matches!(coder.reconstruct(&mut [Run::Absent]), Err(CodingError::Count { .. })));
    let mut runs = [Run::Given(&[1, 2]), Run::Given(&[1]), Run::Absent];
    assert!(matches!(coder.reconstruct(&mut runs), Err(CodingError::Length { .. })));
    assert_eq!(coder.parity_into(&[], &mut []), Ok(()));
}
