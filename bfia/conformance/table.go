package conformance

import (
	"fmt"
	"io"
	"strings"
)

// Row returns the result as a row of a table.
func (r Result) Row() []string {
	return []string{r.Endpoint, r.Aspect, r.Section, string(r.Outcome), r.Observed}
}

// Header returns the header of the table.
func Header() []string { return []string{"ENDPOINT", "ASPECT", "SECTION", "RESULT", "OBSERVED"} }

// Markdown writes results as a Markdown table, for documents.
func Markdown(w io.Writer, results []Result) error {
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	line := func(cells []string) error {
		for i, c := range cells {
			cells[i] = cell.Replace(c)
		}
		_, err := fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		return err
	}
	if err := line(Header()); err != nil {
		return err
	}
	if err := line([]string{"---", "---", "---", "---", "---"}); err != nil {
		return err
	}
	for _, r := range results {
		if err := line(r.Row()); err != nil {
			return err
		}
	}
	return nil
}

// Summary returns the number of checks with each outcome, as text.
func Summary(results []Result) string {
	counts := map[Outcome]int{}
	for _, r := range results {
		counts[r.Outcome]++
	}
	return fmt.Sprintf("%d checks: %d ok, %d deviate, %d failed, %d skipped", len(results), counts[Pass],
		counts[Deviate], counts[Fail], counts[Skip])
}
