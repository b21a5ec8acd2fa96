package zipfile

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckJSON(t *testing.T) {
	for text, values := range map[string]int{
		`1`:                          1,
		`{}`:                         2, // at most: an empty object counts as if it held a value
		`[1,2,3]`:                    4,
		`{"a":1,"b":[{},{}]}`:        7,
		`["a,[{\",{[", "\\", "c,c"]`: 4,
	} {
		require.NoError(t, CheckJSON([]byte(text), values), text)
		require.Error(t, CheckJSON([]byte(text), values-1), text)
	}
	require.EqualError(t, CheckJSON([]byte(strings.Repeat("[", 11)), 10), "has more than 10 values")
	require.NoError(t, CheckJSON([]byte(`"`+strings.Repeat(`,`, 100)), 1), "text that is cut off")
}
