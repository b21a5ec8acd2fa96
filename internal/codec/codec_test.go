package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"
)

const canary = "canary-4711-parameter"

// newDir returns a folder of keys with one in use.
func newDir(t testing.TB, id string, algorithm Algorithm) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	addKey(t, dir, id, algorithm)
	require.NoError(t, UseKey(dir, id))
	return dir
}

func addKey(t testing.TB, dir, id string, algorithm Algorithm) {
	t.Helper()
	_, err := CreateKey(dir, id, algorithm)
	require.NoError(t, err)
}

func open(t testing.TB, source Source) *Ring {
	t.Helper()
	r, err := OpenRing(source, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return r
}

func payload(t testing.TB, value any) *commonpb.Payload {
	t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayload(value)
	require.NoError(t, err)
	return p
}

func encode(t testing.TB, c *Codec, p *commonpb.Payload) *commonpb.Payload {
	t.Helper()
	out, err := c.Encode([]*commonpb.Payload{p})
	require.NoError(t, err)
	require.Len(t, out, 1)
	return out[0]
}

func TestCodec(t *testing.T) {
	for _, algorithm := range Algorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			c := open(t, Source{Dir: newDir(t, "k1", algorithm)}).Codec()
			for _, value := range []any{canary, nil, []byte(canary), map[string]string{canary: canary}} {
				p := payload(t, value)
				before := proto.Clone(p)
				e := encode(t, c, p)
				assert.True(t, proto.Equal(before, p), "the argument is not changed")
				stored, err := proto.Marshal(e)
				require.NoError(t, err)
				assert.NotContains(t, string(stored), canary)
				assert.NotContains(t, string(stored), "json", "the metadata is encrypted too")
				assert.Equal(t, map[string][]byte{"encoding": []byte("binary/encrypted"),
					"encryption-key-id": []byte("k1"), "encryption-cipher": []byte(algorithm)}, e.Metadata)
				out, err := c.Decode([]*commonpb.Payload{e, p})
				require.NoError(t, err)
				assert.True(t, proto.Equal(p, out[0]))
				assert.True(t, proto.Equal(p, out[1]), "a payload without the mark passes through")
				assert.NotEqual(t, e.Data, encode(t, c, p).Data, "each encryption has a nonce of its own")
			}
		})
	}
}

// TestVector pins the format: what a version has written, later ones read.
func TestVector(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		algorithm    Algorithm
		secret, data string
	}{
		{AES256GCM, strings.Repeat("\x01", 32),
			"000102030405060708090a0b" + "a9aeb7454190670b87481617f4d06095095695d3b07818894b6f"},
		{SM4GCM, strings.Repeat("\x02", 16),
			"000102030405060708090a0b" + "fab0a3e8dce6bc4a284e69979b0b15d66d3b46dd66561b6a4bc5"},
	} {
		t.Run(string(c.algorithm), func(t *testing.T) {
			line := string(c.algorithm) + ":" + base64.StdEncoding.EncodeToString([]byte(c.secret))
			file := filepath.Join(dir, string(c.algorithm))
			require.NoError(t, os.WriteFile(file, []byte(line), 0o600))
			r := open(t, Source{Files: map[string]string{"k": file}, Use: "k"})
			data, err := hex.DecodeString(c.data)
			require.NoError(t, err)
			out, err := r.Codec().Decode([]*commonpb.Payload{{Data: data, Metadata: map[string][]byte{
				"encoding": []byte("binary/encrypted"), "encryption-key-id": []byte("k")}}})
			require.NoError(t, err)
			assert.Equal(t, `"canary"`, string(out[0].Data))
		})
	}
}

// TestSM4GCM holds the cipher against the vector of RFC 8998, A.1.
func TestSM4GCM(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	aead, err := SM4GCM.open(unhex("0123456789abcdeffedcba9876543210"))
	require.NoError(t, err)
	var plain string
	for _, c := range "abcdefea" {
		plain += strings.Repeat(string(c), 16)
	}
	assert.Equal(t, "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"+
		"d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"+"83de3541e4c2b58177e065a9bf7b62ec",
		hex.EncodeToString(aead.Seal(nil, unhex("00001234567800000000abcd"), unhex(plain),
			unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"))))
}

func TestDecodeRefuses(t *testing.T) {
	dir := newDir(t, "k1", AES256GCM)
	addKey(t, dir, "k2", AES256GCM)
	c := open(t, Source{Dir: dir}).Codec()
	good := encode(t, c, payload(t, canary))
	for _, x := range []struct {
		name, problem string
		change        func(p *commonpb.Payload)
	}{
		{"changed", "it was changed", func(p *commonpb.Payload) { p.Data[20] ^= 1 }},
		{"cut off", "it is cut off", func(p *commonpb.Payload) { p.Data = p.Data[:11] }},
		{"cut off later", "it was changed", func(p *commonpb.Payload) { p.Data = p.Data[:13] }},
		{"another key", "failed to decrypt a payload with key k2",
			func(p *commonpb.Payload) { p.Metadata[MetadataKey] = []byte("k2") }},
		{"unknown key", `encrypted with key "k3", which is not among the keys of temporal.encryption (k1, k2)`,
			func(p *commonpb.Payload) { p.Metadata[MetadataKey] = []byte("k3") }},
		{"path as key", `encrypted with key "../k1"`,
			func(p *commonpb.Payload) { p.Metadata[MetadataKey] = []byte("../k1") }},
		{"no key", `encrypted with key ""`, func(p *commonpb.Payload) { delete(p.Metadata, MetadataKey) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := proto.Clone(good).(*commonpb.Payload)
			x.change(p)
			_, err := c.Decode([]*commonpb.Payload{p})
			require.ErrorContains(t, err, x.problem)
			assert.NotContains(t, err.Error(), canary)
		})
	}
}

// TestWorkflowCodecWaits checks what keeps a job alive whose key is not there yet.
func TestWorkflowCodecWaits(t *testing.T) {
	writer := newDir(t, "new", AES256GCM)
	p := encode(t, open(t, Source{Dir: writer}).Codec(), payload(t, canary))
	reader := newDir(t, "old", AES256GCM)
	c := open(t, Source{Dir: reader}).WorkflowCodec()
	assert.PanicsWithError(t, (&UnknownKeyError{ID: "new", Known: "old"}).Error(),
		func() { _, _ = c.Decode([]*commonpb.Payload{p}) })

	text, err := os.ReadFile(filepath.Join(writer, "new.key"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(reader, "new.key"), text, 0o600))
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.NotPanics(t, func() {
			out, err := c.Decode([]*commonpb.Payload{p})
			require.NoError(t, err)
			require.Contains(t, string(out[0].Data), canary)
		})
	}, time.Minute, 20*time.Millisecond)

	p.Data[20] ^= 1 // trying again can't fix a changed payload
	_, err = c.Decode([]*commonpb.Payload{p})
	require.ErrorContains(t, err, "it was changed")
}

func TestRotation(t *testing.T) {
	dir := newDir(t, "k1", AES256GCM)
	r := open(t, Source{Dir: dir})
	c := r.Codec()
	first := encode(t, c, payload(t, canary))
	addKey(t, dir, "k2", SM4GCM)
	require.NoError(t, UseKey(dir, "k2"))
	var second *commonpb.Payload
	require.Eventually(t, func() bool {
		second = encode(t, c, payload(t, canary))
		return string(second.Metadata[MetadataKey]) == "k2"
	}, time.Minute, 20*time.Millisecond)
	out, err := c.Decode([]*commonpb.Payload{first, second})
	require.NoError(t, err)
	assert.True(t, proto.Equal(out[0], out[1]))

	// What can't be read leaves the ring as it was, and is said once.
	var log bytes.Buffer
	r.logger = slog.New(slog.NewTextHandler(&log, nil))
	require.NoError(t, os.WriteFile(filepath.Join(dir, CurrentFile), []byte("k9\n"), 0o600))
	require.Eventually(t, func() bool {
		assert.Equal(t, "k2", string(encode(t, c, payload(t, canary)).Metadata[MetadataKey]))
		return log.Len() > 0
	}, time.Minute, 20*time.Millisecond)
	r.mu.Lock()
	r.reload(0)
	r.mu.Unlock()
	assert.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	assert.Contains(t, log.String(), `key \"k9\" is to be used, but is not among the keys (k1, k2)`)
}

func TestOpenRingRefuses(t *testing.T) {
	for _, c := range []struct {
		name, problem string
		spoil         func(dir string, s *Source)
	}{
		{"no choice", "no key is chosen", func(dir string, _ *Source) {
			require.NoError(t, os.Remove(filepath.Join(dir, CurrentFile)))
		}},
		{"absent key", `key "k7" is to be used, but is not among the keys (k1)`,
			func(_ string, s *Source) { s.Use = "k7" }},
		{"readable by others", "run chmod o= ", func(dir string, _ *Source) {
			require.NoError(t, os.Chmod(filepath.Join(dir, "k1.key"), 0o644))
		}},
		{"no key", "is not a key; make one with hutong key create", func(dir string, _ *Source) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "k1.key"), []byte("aes-256-gcm:AAAA"), 0o600))
		}},
		{"algorithm", "key k1 is for aes-256-gcm, but the algorithm must be sm4-gcm",
			func(_ string, s *Source) { s.Algorithm = SM4GCM }},
		{"id", `".k" is not the id of a key`, func(dir string, _ *Source) {
			require.NoError(t, os.Rename(filepath.Join(dir, "k1.key"), filepath.Join(dir, ".k.key")))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newDir(t, "k1", AES256GCM)
			s := Source{Dir: dir}
			if c.name == "id" {
				s = Source{Files: map[string]string{".k": filepath.Join(dir, ".k.key")}, Use: ".k"}
			}
			c.spoil(dir, &s)
			_, err := OpenRing(s, slog.New(slog.DiscardHandler))
			require.ErrorContains(t, err, c.problem)
		})
	}
}

func TestCreateKey(t *testing.T) {
	dir := newDir(t, "k1", SM4GCM)
	info, err := os.Stat(filepath.Join(dir, "k1.key"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	before, err := os.ReadFile(filepath.Join(dir, "k1.key"))
	require.NoError(t, err)
	_, err = CreateKey(dir, "k1", SM4GCM)
	require.ErrorContains(t, err, "has a key k1 already")
	after, err := os.ReadFile(filepath.Join(dir, "k1.key"))
	require.NoError(t, err)
	assert.Equal(t, before, after)
	_, err = CreateKey(dir, "../k2", SM4GCM)
	require.ErrorContains(t, err, "is not the id of a key")
	_, err = CreateKey(dir, "k2", "des")
	require.ErrorContains(t, err, `"des" is not an algorithm`)
	require.Error(t, UseKey(dir, "k9"))
}

func BenchmarkEncode(b *testing.B) {
	for _, algorithm := range Algorithms() {
		b.Run(string(algorithm), func(b *testing.B) {
			c := open(b, Source{Dir: newDir(b, "k1", algorithm)}).Codec()
			p := []*commonpb.Payload{payload(b, strings.Repeat("x", 4096))}
			b.SetBytes(4096)
			for b.Loop() {
				if _, err := c.Encode(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
