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

func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// row is one comparison.
type row struct {
	name          string
	target        float64 // 0: none
	hutong, alone samples
	spanNames     []string
	cpu           []time.Duration // processor time that hutong took for a job
}

func (r *row) ratio() float64 {
	return float64(median(r.hutong.total)) / float64(median(r.alone.total))
}

func (r *row) isOver() bool { return r.target > 0 && r.ratio() > r.target }

// log prints the last run.
func (r *row) log(o options) {
	if o.noisy {
		n := len(r.hutong.total) - 1
		fmt.Printf("%s: hutong %s, alone %s\n", r.name, ms(r.hutong.total[n]), ms(r.alone.total[n]))
	}
}

type report struct{ rows []row }

func (r *report) over() bool {
	return slices.ContainsFunc(r.rows, func(r row) bool { return r.isOver() })
}

func (r *report) print(w io.Writer, o options) {
	if len(r.rows) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "Medians of %d single jobs and %d rounds of %d jobs at once; alone: the same containers by the Docker API alone, or plain processes\n\n",
		o.runs, o.rounds, o.jobs)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\tHutong\talone\tratio\ttarget\t\tHutong's CPU per job")
	for _, row := range r.rows {
		target, verdict := "", ""
		if row.target > 0 {
			target, verdict = fmt.Sprintf("%.1f", row.target), "ok"
			if row.isOver() {
				verdict = "OVER"
			}
		}
		cpu := ""
		if len(row.cpu) > 0 {
			cpu = ms(median(row.cpu))
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%.2f\t%s\t%s\t%s\n", row.name, ms(median(row.hutong.total)), ms(median(row.alone.total)), row.ratio(), target, verdict, cpu)
	}
	_ = table.Flush()
	for _, row := range r.rows {
		if len(row.hutong.split) == 0 {
			continue
		}
		_, _ = fmt.Fprintf(w, "\nWhere the time goes: %s\n", row.name)
		for i, name := range row.spanNames {
			_, _ = fmt.Fprintf(table, "  %s\t%s", name, ms(row.hutong.span(i)))
			if len(row.alone.split) > 0 {
				_, _ = fmt.Fprintf(table, "\t%s", ms(row.alone.span(i)))
			}
			_, _ = fmt.Fprintln(table)
		}
		_ = table.Flush()
	}
}

func ms(d time.Duration) string {
	text := fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	return strings.Repeat(" ", max(0, 8-len(text))) + text
}
