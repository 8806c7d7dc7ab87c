// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// The kinds of periods, from the shortest on.
enum Span {
    Hour,
    Day,
    Week,
    Month,
    Year
}

/// The number of the period, in UTC, in which a moment lies. Weeks begin on Monday.
function periodOf(Span span, uint64 time) pure returns (uint256) {
    if (span == Span.Hour) return time / 1 hours;
    uint256 day = time / 1 days;
    if (span == Span.Day) return day;
    // Day 0 was a Thursday.
    if (span == Span.Week) return (day + 3) / 7;
    (uint256 year, uint256 month) = yearAndMonth(day);
    return span == Span.Year ? year : year * 12 + month - 1;
}

/// The Gregorian year and month of a day counted from 1970-01-01: eras of 400 years that begin in March, so that the
/// day that may be missing is the last of its year.
function yearAndMonth(uint256 day) pure returns (uint256 year, uint256 month) {
    unchecked {
        uint256 shifted = day + 719_468;
        uint256 era = shifted / 146_097;
        uint256 ofEra = shifted % 146_097;
        uint256 yearOfEra = (ofEra - ofEra / 1_460 + ofEra / 36_524 - ofEra / 146_096) / 365;
        uint256 ofYear = ofEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100);
        uint256 fromMarch = (5 * ofYear + 2) / 153;
        month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9;
        year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0);
    }
}
