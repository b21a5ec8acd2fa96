package bfia

import "strings"

// Closest returns the candidate that a misspelt name most likely means, or "" if it resembles none. Case
// does not count. The longer the names, the more they may differ.
func Closest(name string, candidates []string) string {
	closest, least := "", 1<<30
	for _, c := range candidates {
		if c == name {
			continue // it is not misspelt
		}
		distance := editDistance(strings.ToLower(name), strings.ToLower(c))
		allowed := 2
		if shorter := min(len(name), len(c)); shorter < 3 {
			allowed = 0 // almost every name is one letter away from another
		} else if shorter < 5 {
			allowed = 1
		}
		if distance <= allowed && distance < least {
			closest, least = c, distance
		}
	}
	return closest
}

// DidYouMean returns "; did you mean X?" for a name that resembles a candidate, or with which only one
// candidate begins, or "".
func DidYouMean(name string, candidates []string) string {
	meant := Closest(name, candidates)
	if meant == "" {
		meant = onlyLonger(name, candidates)
	}
	if meant == "" {
		return ""
	}
	return "; did you mean " + meant + "?"
}

// onlyLonger returns the only candidate that begins with a name, as config begins with conf, or "".
func onlyLonger(name string, candidates []string) string {
	longer := ""
	for _, c := range candidates {
		if len(name) < 4 || len(c) <= len(name) || !strings.EqualFold(c[:len(name)], name) {
			continue
		}
		if longer != "" {
			return ""
		}
		longer = c
	}
	return longer
}

// editDistance returns how many bytes must be inserted, removed or replaced, or neighbours swapped, to get
// from one text to the other (the Damerau-Levenshtein distance of optimal string alignment).
func editDistance(a, b string) int {
	var before []int // the row before the last one
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			replaced := last[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(replaced, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
