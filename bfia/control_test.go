package bfia

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestTaskAnswer(t *testing.T) {
	for body, want := range map[string]TaskAnswer{
		// the specification's
		`{"code": 0, "status": "RUNNING", "role": "host"}`:                                          {TaskRunning, "host", ""},
		`{"code":0,"msg":"success","data":{"status":"success","role":"guest.0","progress":"50 %"}}`: {TaskSuccess, "guest.0", "50 %"},
		`{"code":0,"status":"FAILED","role":null,"data":[],"message":"no rows"}`:                    {TaskFailed, "", "no rows"},
		`{"code":0,"status":"RUNNING","progress":0.426,"msg":"tree\n3"}`:                            {TaskRunning, "", "43%: tree 3"},
		`{"code":0,"status":"RUNNING","progress":42}`:                                               {TaskRunning, "", "42%"},
		`{"code":0,"status":"RUNNING","progress":1}`:                                                {TaskRunning, "", "100%"},
		`{"code":0,"status":"RUNNING","progress":{"tree":3}}`:                                       {TaskRunning, "", `{"tree": 3}`},
		`{"code":0,"status":"RUNNING","progress":1200}`:                                             {TaskRunning, "", "1200"},
	} {
		got, err := ParseTaskAnswer([]byte(body))
		require.NoError(t, err, body)
		require.Equal(t, want, *got, body)
	}
	for body, words := range map[string]string{
		`{"code":1,"status":"RUNNING"}`: "the component answers 1",
		`{"status":"RUNNING"}`:          "code: is required",
		`{"code":0}`:                    "status: ",
		`{"code":0,"status":"BUSY"}`:    `"BUSY" is none of`,
		`[]`:                            "must be an object",
		`<html>`:                        "is not valid JSON",
	} {
		_, err := ParseTaskAnswer([]byte(body))
		require.ErrorContains(t, err, words, body)
	}
}

func FuzzTaskAnswer(f *testing.F) {
	f.Add([]byte(`{"code":0,"status":"RUNNING","role":"host","progress":1e999,"msg":"\u0000\ud800"}`))
	f.Add([]byte(`{"code":0,"data":{"status":"SUCCESS","progress":{"a":[1]}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := ParseTaskAnswer(body)
		if err != nil {
			requireRefused(t, err)
			return
		}
		if !utf8.ValidString(a.Progress) || utf8.RuneCountInString(a.Progress) > maxProgress+1 ||
			strings.ContainsAny(a.Progress, "\x00\n\x1b") {
			t.Fatalf("progress: %q", a.Progress)
		}
	})
}
