package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// samples are the runs of one side.
type samples struct {
	total []time.Duration
	split [][]time.Duration
}

func (s *samples) add(total time.Duration, split []time.Duration) {
	s.total = append(s.total, total)
	if split != nil {
		s.split = append(s.split, slices.Clone(split))
	}
}

// span is the median of one part.
func (s *samples) span(i int) time.Duration {
	var all []time.Duration
	for _, split := range s.split {
		all = append(all, split[i])
	}
	return median(all)
}

func median(all []time.Duration) time.Duration { return percentile(all, 50) }

// percentile is the value that p of 100 are not above; the median of an even number lies between two.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	if p == 50 {
		return (sorted[(n-1)/2] + sorted[n/2]) / 2
	}
	return sorted[min(n-1, (n*p+99)/100-1)]
}

// figure is a line of the table: what was measured, and what it is held against in the same run.
type figure struct {
	name            string
	measured, other string
	ratio           float64 // measured to other
	target          target
	notes           []string
}

// target bounds a figure's ratio; the zero value does not.
type target struct {
	bound   float64
	atLeast bool // the ratio must not be below; otherwise it must not be above
}

func atMost(bound float64) target  { return target{bound: bound} }
func atLeast(bound float64) target { return target{bound: bound, atLeast: true} }

func (t target) String() string {
	switch {
	case t.bound == 0:
		return ""
	case t.atLeast:
		return fmt.Sprintf("≥ %.2g", t.bound)
	}
	return fmt.Sprintf("≤ %.2g", t.bound)
}

func (f *figure) missed() bool {
	t := f.target
	return t.bound > 0 && (t.atLeast && f.ratio < t.bound || !t.atLeast && f.ratio > t.bound)
}

// timed compares the medians of two sides.
func timed(name string, hutong, other samples, t target, notes ...string) figure {
	mine, theirs := median(hutong.total), median(other.total)
	return figure{name: name, measured: text(mine), other: text(theirs), ratio: float64(mine) / float64(theirs), target: t, notes: notes}
}

// report is what was measured, by section.
type report struct {
	sections []*chapter
	splits   []split
}

type chapter struct {
	title, other string
	figures      []figure
}

// split tells where the time of one measurement went.
type split struct {
	name          string
	spans         []string
	hutong, alone samples
}

// chapter begins a section of the table; other heads the column of what Hutong is held against.
func (r *report) chapter(title, other string) *chapter {
	c := &chapter{title: title, other: other}
	r.sections = append(r.sections, c)
	return c
}

func (c *chapter) add(f figure) {
	c.figures = append(c.figures, f)
	fmt.Printf("%s: %s, %s: %s, ratio %.2f %s%s\n", f.name, f.measured, c.other, f.other, f.ratio, f.target, verdict(f))
}

func verdict(f figure) string {
	switch {
	case f.target.bound == 0:
		return ""
	case f.missed():
		return " MISSED"
	}
	return " ok"
}

func (r *report) missed() bool {
	for _, c := range r.sections {
		if slices.ContainsFunc(c.figures, func(f figure) bool { return f.missed() }) {
			return true
		}
	}
	return false
}

// print writes the table, as Markdown, which reads well as it is.
func (r *report) print(w io.Writer) {
	for _, c := range r.sections {
		if len(c.figures) == 0 {
			continue
		}
		_, _ = fmt.Fprintf(w, "\n| %s | Hutong | %s | ratio | target | |\n| --- | --- | --- | --- | --- | --- |\n", c.title, c.other)
		for _, f := range c.figures {
			ratio := fmt.Sprintf("%.2f", f.ratio)
			if f.missed() {
				ratio = "**" + ratio + "**"
			}
			notes := f.notes
			if f.missed() {
				notes = append([]string{"**missed**"}, notes...)
			}
			_, _ = fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", f.name, f.measured, f.other, ratio, f.target, strings.Join(notes, "; "))
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range r.splits {
		_, _ = fmt.Fprintf(w, "\nWhere the time goes: %s\n", s.name)
		for i, name := range s.spans {
			_, _ = fmt.Fprintf(table, "  %s\t%s", name, text(s.hutong.span(i)))
			if len(s.alone.split) > 0 {
				_, _ = fmt.Fprintf(table, "\t%s", text(s.alone.span(i)))
			}
			_, _ = fmt.Fprintln(table)
		}
		_ = table.Flush()
	}
}

// text is a duration with three digits or so.
func text(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 10_000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func rate(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }
