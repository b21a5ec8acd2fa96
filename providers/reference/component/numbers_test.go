package component

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNumbers(t *testing.T) {
	table := &Table{Columns: []string{"id", "y", "x"}, Rows: [][]string{{"a", "1", "0.5"}, {"b", "0", ""}}}
	_, err := table.Features("id", "y")
	require.ErrorContains(t, err, `column "x", row 2: not a number`)
	for _, bad := range []string{"NaN", "Inf", "word"} {
		table.Rows[1][2] = bad
		_, err := table.Features("id", "y")
		require.Error(t, err)
		require.NotContains(t, err.Error(), "0.5")
	}
	labels, err := table.Labels("y")
	require.NoError(t, err)
	require.Equal(t, []uint8{1, 0}, labels)
	table.Rows[1][1] = "1.0"
	_, err = table.Labels("y")
	require.ErrorContains(t, err, "both 0 and 1 must occur")
	table.Rows[1][1] = "2"
	_, err = table.Labels("y")
	require.ErrorContains(t, err, "neither 0 nor 1")
	_, err = table.Labels("z")
	require.ErrorContains(t, err, `no column "z"`)
}
