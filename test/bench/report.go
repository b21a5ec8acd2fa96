package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// samples holds the measurements of one side.
type samples struct {
	total []time.Duration
	spans [][]time.Duration
}

func (s *samples) add(total time.Duration, split []time.Duration) {
	s.total = append(s.total, total)
	if split != nil {
		s.spans = append(s.spans, slices.Clone(split))
	}
}

// span returns the median of one phase.
func (s *samples) span(i int) time.Duration {
	var all []time.Duration
	for _, split := range s.spans {
		all = append(all, split[i])
	}
	return median(all)
}

func median(all []time.Duration) time.Duration { return percentile(all, 50) }

// percentile returns the p-th percentile by the nearest-rank method. The median of an even number is the mean
// of the middle two.
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

// figure is a line of a table: a measurement, and the baseline of the same run.
type figure struct {
	name               string
	measured, baseline string
	ratio              float64 // measured to other
	target             target
	notes              []string
}

// target is a bound of a figure's ratio. The zero value is no bound.
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
		return fmt.Sprintf("≥ %.3g", t.bound)
	}
	return fmt.Sprintf("≤ %.3g", t.bound)
}

func (f *figure) missesTarget() bool {
	t := f.target
	return t.bound > 0 && (t.atLeast && f.ratio < t.bound || !t.atLeast && f.ratio > t.bound)
}

// compareMedians compares the medians of two sides.
func compareMedians(name string, hutong, other samples, t target, notes ...string) figure {
	measured, baseline := median(hutong.total), median(other.total)
	return figure{name: name, measured: formatDuration(measured), baseline: formatDuration(baseline),
		ratio: float64(measured) / float64(baseline), target: t, notes: notes}
}

// report collects the results by section.
type report struct {
	sections []*reportSection
	splits   []breakdown
}

type reportSection struct {
	title, baseline string
	figures         []figure
}

// breakdown holds the phases of a measurement.
type breakdown struct {
	name             string
	spans            []string
	hutong, baseline samples
}

// addSection adds a section; baseline heads the column that Hutong is compared with.
func (r *report) addSection(title, other string) *reportSection {
	c := &reportSection{title: title, baseline: other}
	r.sections = append(r.sections, c)
	return c
}

func (c *reportSection) add(f figure) {
	c.figures = append(c.figures, f)
	fmt.Printf("%s: %s, %s: %s, ratio %.2f %s%s\n", f.name, f.measured, c.baseline, f.baseline, f.ratio,
		f.target, verdict(f))
}

func verdict(f figure) string {
	switch {
	case f.target.bound == 0:
		return ""
	case f.missesTarget():
		return " MISSED"
	}
	return " ok"
}

func (r *report) missesTarget() bool {
	for _, c := range r.sections {
		if slices.ContainsFunc(c.figures, func(f figure) bool { return f.missesTarget() }) {
			return true
		}
	}
	return false
}

// print writes the report as Markdown tables.
func (r *report) print(w io.Writer) {
	for _, s := range r.sections {
		if len(s.figures) == 0 {
			continue
		}

		_, _ = fmt.Fprintf(w,
			"\n| %s | Hutong | %s | ratio | target | |\n| --- | --- | --- | --- | --- | --- |\n",
			s.title, s.baseline)
		for _, f := range s.figures {
			ratio, notes := fmt.Sprintf("%.2f", f.ratio), f.notes
			if f.missesTarget() {
				ratio = "**" + ratio + "**"
				notes = append([]string{"**missed**"}, notes...)
			}
			_, _ = fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", f.name, f.measured, f.baseline,
				ratio, f.target, strings.Join(notes, "; "))
		}
	}

	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range r.splits {
		_, _ = fmt.Fprintf(w, "\nWhere the time goes: %s\n", s.name)
		for i, name := range s.spans {
			_, _ = fmt.Fprintf(table, "  %s\t%s", name, formatDuration(s.hutong.span(i)))
			if len(s.baseline.spans) > 0 {
				_, _ = fmt.Fprintf(table, "\t%s", formatDuration(s.baseline.span(i)))
			}
			_, _ = fmt.Fprintln(table)
		}
		_ = table.Flush()
	}
}

// formatDuration formats a duration with about three digits.
func formatDuration(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 10_000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func perSecond(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }
