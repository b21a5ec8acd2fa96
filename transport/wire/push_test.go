package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"hutong/transport/ptp"
	"hutong/transport/status"
)

// pushed is the result of parsing a push.
type pushed struct {
	topic   string
	meta    Headers
	payload []byte
}

// written is a PayloadWriter in memory.
type written struct{ bytes.Buffer }

func (w *written) Reset() { w.Buffer.Reset() }

func parse(form PushForm, enc Encoding, body []byte) (p pushed, err error) {
	var w written
	err = Buffered(bytes.NewReader(body), func(r *bufio.Reader) error {
		p.topic, p.meta, err = form.Parse(enc, r, &w)
		return err
	})
	p.payload = w.Bytes()
	return p, err
}

func protoPush(topic string, payload []byte) []byte {
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendString(b, topic)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendBytes(b, payload)
}

func protoWrap(metadata map[string]string, payload []byte) []byte {
	var b []byte
	for k, v := range metadata {
		e := protowire.AppendTag(nil, 1, protowire.BytesType)
		e = protowire.AppendString(e, k)
		e = protowire.AppendTag(e, 2, protowire.BytesType)
		e = protowire.AppendString(e, v)
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendBytes(b, e)
	}
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendBytes(b, payload)
}

// FuzzProtobufRoundTrip checks that encoded messages decode to the same values.
func FuzzProtobufRoundTrip(f *testing.F) {
	f.Add("topic", []byte("payload"), "key", "value")
	f.Fuzz(func(t *testing.T, topic string, payload []byte, k, v string) {
		for _, s := range []*string{&topic, &k, &v} {
			*s = strings.ToValidUTF8(*s, "?")
		}
		in, err := parse(Wrapped, Protobuf,
			protoWrap(map[string]string{"x-ptp-" + k: v}, protoPush(topic, payload)))
		require.NoError(t, err)
		require.Equal(t, headersFromMetadata(map[string]string{"x-ptp-" + k: v}), in.meta)
		require.Equal(t, topic, in.topic)
		require.True(t, bytes.Equal(payload, in.payload))

		head, tail := encodeProtobufAnswer(Answer{Code: status.Code(k), Message: v}, int64(len(payload)))
		out, err := decodeProtobufAnswer(bytes.Join([][]byte{head, payload, tail}, nil))
		require.NoError(t, err)
		require.Equal(t, status.Code(k), out.Code)
		require.Equal(t, v, out.Message)
		require.True(t, bytes.Equal(payload, out.Payload))
	})
}

// FuzzJSONPieces compares the streaming JSON parser with encoding/json.
func FuzzJSONPieces(f *testing.F) {
	for _, s := range []string{`{"topic":"x","payload":"aGk="}`,
		`{"payload":"a\/\u0047k=\n","x":{"y":["}"]}}`, `{"payload":null}`,
		`{"payload":[1,2],"PAYLOAD":"aGk="}`, ` {"payload" : "" , "topic":"\u4e92"} `,
		`{"payload":"aGk=","payload":"aG9sYQ=="}`, `{}x`, `{"payload":"aGk=aGk="}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var whole struct {
			Topic   string  `json:"topic"`
			Payload *[]byte `json:"payload"`
		}
		want := json.Unmarshal(b, &whole)
		got, err := parse(Plain, JSON, b)
		if err == nil {
			require.NoError(t, want)
			require.NotNil(t, whole.Payload)
			require.Equal(t, whole.Topic, got.topic)
			require.True(t, bytes.Equal(*whole.Payload, got.payload))
		} else if want == nil && whole.Payload != nil {
			t.Fatalf("refused: %v", err)
		}
	})
}

// FuzzProtobufPieces compares the streaming protobuf parser with the protobuf library.
func FuzzProtobufPieces(f *testing.F) {
	f.Add(protoPush("x", []byte("hello")))
	f.Add(append(protoPush("x", []byte("hello")), protoPush("y", nil)...))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var whole ptp.PushInbound
		want := proto.Unmarshal(b, &whole)
		got, err := parse(Plain, Protobuf, b)
		if err == nil && want == nil { // each is stricter than the other about unused fields
			require.Equal(t, whole.Topic, got.topic)
			require.True(t, bytes.Equal(whole.Payload, got.payload))
		}
	})
}
