package bfia

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRepeatedFields(t *testing.T) {
	for _, c := range []struct {
		text     string
		repeated []string
	}{
		{`{"a":1,"b":{"a":2}}`, nil},
		{`{"a":1,"a":2,"a":3}`, []string{"a"}},
		{`{"a":{"b":[{"c":1},{"c":1,"\u0063":2}]}}`, []string{"a.b[1].c"}},
		{`{"a":{"b":1,"b":2},"a":{"b":1}}`, []string{"a.b", "a"}},
		{`[{"a":1},{"a":1}]`, nil},
		{`"a"`, nil},
		{`{"a":1,"a":`, []string{"a"}},
		{``, nil},
	} {
		require.Equal(t, c.repeated, RepeatedFields([]byte(c.text)), c.text)
	}
}
