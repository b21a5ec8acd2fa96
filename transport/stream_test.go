package transport

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"

	"hutong/transport/ptp"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// TestHTTPStream checks that a stream over HTTP/1.1 is answered while messages are still being sent.
func TestHTTPStream(t *testing.T) {
	for _, c := range []struct {
		contentType, version string
		send                 func(w io.Writer, n int) error
		answer               func(r *bufio.Reader) (string, error)
	}{
		{"application/x-protobuf;delimited=true", "", func(w io.Writer, n int) error {
			_, err := protodelim.MarshalTo(w, wrap(t, "x", fmt.Sprint(n)))
			return err
		}, delimitedAnswer},
		{"application/x-protobuf; delimited=true", wire.PassThrough, func(w io.Writer, n int) error {
			_, err := protodelim.MarshalTo(w, &ptp.PushInbound{Topic: "x", Payload: fmt.Append(nil, n)})
			return err
		}, delimitedAnswer},
		{wire.NDJSONType, wire.PassThrough, func(w io.Writer, n int) error {
			_, err := fmt.Fprintf(w, `{"topic":"x","payload":%q} `+"\n\n", b64(fmt.Append(nil, n)))
			return err
		}, lineAnswer},
		{wire.NDJSONType, "2", func(w io.Writer, n int) error {
			push := fmt.Appendf(nil, `{"payload":%q,"topic":"x"}`, b64(fmt.Append(nil, n)))
			_, err := fmt.Fprintf(w, `{"metadata":{"a":"b"},"payload":%q}`, b64(push))
			return err
		}, lineAnswer},
	} {
		t.Run(c.contentType+" "+c.version, func(t *testing.T) {
			net := newNetwork(t, Limits{}, "B")
			in, out := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), "POST", net["B"].url+pathStream, in)
			require.NoError(t, err)
			for name, value := range map[string]string{
				"Content-Type": c.contentType, wire.HeaderVersion: c.version, wire.HeaderURI: pathPush,
				wire.HeaderSessionID: "s", wire.HeaderTargetNodeID: "B",
			} {
				req.Header.Set(name, value)
			}
			// The first message is sent before there is an answer to read.
			sent := make(chan error, 1)
			go func() { sent <- c.send(out, 0) }()
			resp, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, 200, resp.StatusCode)
			require.NoError(t, <-sent)
			answers := bufio.NewReader(resp.Body)
			for i := range 20 {
				code, err := c.answer(answers)
				require.NoError(t, err)
				require.Equal(t, string(status.OK), code)
				require.Equal(t, fmt.Sprint(i), string(net["B"].container(t, "s").mustPop("x")),
					"the message is in its queue when it is answered")
				if i < 19 {
					require.NoError(t, c.send(out, i+1))
				}
			}
			require.NoError(t, out.Close())
			_, err = c.answer(answers)
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

func delimitedAnswer(r *bufio.Reader) (string, error) {
	var out ptp.Outbound
	err := protodelim.UnmarshalFrom(r, &out)
	return out.Code, err
}

func lineAnswer(r *bufio.Reader) (string, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return "", err
	}
	out, err := wire.JSON.DecodeAnswer(line)
	return string(out.Code), err
}

// TestStreamEdges checks a single message without a frame, which Kuscia accepts at the same path, and streams
// that break.
func TestStreamEdges(t *testing.T) {
	net := newNetwork(t, Limits{}, "B")
	header := map[string]string{
		"Content-Type":       "application/json",
		wire.HeaderVersion:   wire.PassThrough,
		wire.HeaderSessionID: "s",
		wire.HeaderURI:       pathPush,
	}
	httpCode, answer := raw(t, "POST", net["B"].url+pathStream, header, `{"topic":"x","payload":"aGk="}`)
	require.Equal(t, 200, httpCode)
	require.EqualValues(t, status.OK, answer["code"])
	require.Equal(t, "hi", string(net["B"].container(t, "s").mustPop("x")))

	header["Content-Type"] = wire.NDJSONType
	post := func(body string) []string {
		req, err := http.NewRequestWithContext(t.Context(), "POST", net["B"].url+pathStream,
			bytes.NewReader([]byte(body)))
		require.NoError(t, err)
		for name, value := range header {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		var codes []string
		for r := bufio.NewReader(resp.Body); ; {
			code, err := lineAnswer(r)
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				return codes
			}
			codes = append(codes, code)
		}
	}
	good := `{"topic":"x","payload":"aGk="}`
	require.Equal(t, []string{string(status.OK), string(status.OK)}, post(good+good))
	require.Equal(t, []string{string(status.OK), string(status.BadRequest)}, post(good+`{"topic":1}`+good),
		"the next message can't be found")
	require.Equal(t, []string{string(status.OK), string(status.BadRequest)}, post(good+`{"topic":"x","payl`))
	require.Equal(t, []string{string(status.BadRequest)}, post(`nothing`))
	require.Empty(t, post(""))
}
