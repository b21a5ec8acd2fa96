package metrics

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// row returns the line of a metric in the table of the document.
func (d *Definition) row() string {
	labels := "none"
	if len(d.Labels) > 0 {
		labels = "`" + strings.Join(d.labelNames(), "`, `") + "`"
	}
	return "| `" + d.Name + "` | " + string(d.Kind) + " | " + labels + " | " + d.Help + " |\n"
}

// TestDocumented compares the table of metrics in the document for operators with the code.
func TestDocumented(t *testing.T) {
	const file, head = "../../docs/operators/monitoring.md",
		"| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(text), head)
	require.True(t, found, "%s has no table of metrics", file)
	documented, after, found := strings.Cut(rest, "\n\n")
	require.True(t, found, "the table must end with an empty line")

	var defined strings.Builder
	for _, d := range Definitions() {
		defined.WriteString(d.row())
	}
	if os.Getenv("HUTONG_UPDATE_GOLDEN") != "" {
		documented = strings.TrimSuffix(defined.String(), "\n")
		require.NoError(t, os.WriteFile(file, []byte(before+head+documented+"\n\n"+after), 0o600))
	}
	require.Equal(t, defined.String(), documented+"\n", "HUTONG_UPDATE_GOLDEN=1 corrects the table in %s",
		file)
}
