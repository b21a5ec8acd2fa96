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
)

// The stream over HTTP/1.1: answers come while messages are still being sent.
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
		{"application/x-protobuf; delimited=true", passThrough, func(w io.Writer, n int) error {
			_, err := protodelim.MarshalTo(w, &ptp.PushInbound{Topic: "x", Payload: fmt.Append(nil, n)})
			return err
		}, delimitedAnswer},
		{ndjson, passThrough, func(w io.Writer, n int) error {
			_, err := fmt.Fprintf(w, `{"topic":"x","payload":%q} `+"\n\n", b64(fmt.Append(nil, n)))
			return err
		}, lineAnswer},
		{ndjson, "2", func(w io.Writer, n int) error {
			_, err := fmt.Fprintf(w, `{"metadata":{"a":"b"},"payload":%q}`, b64(fmt.Appendf(nil, `{"payload":%q,"topic":"x"}`, b64(fmt.Append(nil, n)))))
			return err
		}, lineAnswer},
	} {
		t.Run(c.contentType+" "+c.version, func(t *testing.T) {
			net := newNetwork(t, Limits{}, "B")
			in, out := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), "POST", net["B"].url+pathStream, in)
			require.NoError(t, err)
			for name, value := range map[string]string{"Content-Type": c.contentType, headerVersion: c.version,
				headerSessionID: "s", headerTargetNodeID: "B", headerURI: pathPush} {
				req.Header.Set(name, value)
			}
			// The first message is on its way before there is an answer to read.
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
				require.Equal(t, string(CodeOK), code)
				require.Equal(t, fmt.Sprint(i), string(net["B"].container(t, "s").mustPop("x")), "it is there as soon as it is answered")
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
	out, err := decodeJSONAnswer(line)
	return string(out.code), err
}

// One message without a frame is what Kuscia takes at the same path; a stream that breaks says where.
func TestStreamEdges(t *testing.T) {
	net := newNetwork(t, Limits{}, "B")
	header := map[string]string{"Content-Type": "application/json", headerVersion: passThrough, headerSessionID: "s", headerURI: pathPush}
	status, answer := raw(t, "POST", net["B"].url+pathStream, header, `{"topic":"x","payload":"aGk="}`)
	require.Equal(t, 200, status)
	require.EqualValues(t, CodeOK, answer["code"])
	require.Equal(t, "hi", string(net["B"].container(t, "s").mustPop("x")))

	header["Content-Type"] = ndjson
	post := func(body string) []string {
		req, err := http.NewRequestWithContext(t.Context(), "POST", net["B"].url+pathStream, bytes.NewReader([]byte(body)))
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
	require.Equal(t, []string{string(CodeOK), string(CodeOK)}, post(good+good))
	require.Equal(t, []string{string(CodeOK), string(CodeBadRequest)}, post(good+`{"topic":1}`+good), "what follows can't be found")
	require.Equal(t, []string{string(CodeOK), string(CodeBadRequest)}, post(good+`{"topic":"x","payl`))
	require.Equal(t, []string{string(CodeBadRequest)}, post(`nothing`))
	require.Empty(t, post(""))
}
