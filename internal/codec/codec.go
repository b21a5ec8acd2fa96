package codec

import (
	"crypto/rand"
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"
)

// The metadata of an encrypted payload. Its data is a nonce of 12 bytes and the ciphertext of the original
// payload with its metadata.
const (
	Encoding       = "binary/encrypted" // of converter.MetadataEncoding
	MetadataKey    = "encryption-key-id"
	MetadataCipher = "encryption-cipher"
)

// Codec is a [converter.PayloadCodec] that encrypts with the keys of a [Ring].
type Codec struct {
	ring *Ring
	wait bool
}

var _ converter.PayloadCodec = (*Codec)(nil)

// Codec returns the codec of clients and activities. Decode returns an [UnknownKeyError] for a payload of a
// key that is not in the ring.
func (r *Ring) Codec() *Codec { return &Codec{ring: r} }

// WorkflowCodec returns the codec of workflow workers. There an error of Decode would fail the job, or drop
// the signal that can't be read. So Decode panics with an [UnknownKeyError] instead. Temporal tries the
// workflow task again after a panic, so the job continues when the key is there.
func (r *Ring) WorkflowCodec() *Codec { return &Codec{ring: r, wait: true} }

// Encode encrypts payloads with the ring's current key.
func (c *Codec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	k := c.ring.toEncrypt()
	encrypted := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		plain, err := proto.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("failed to encrypt a payload: %w", err)
		}
		nonce := make([]byte, k.aead.NonceSize(), k.aead.NonceSize()+len(plain)+k.aead.Overhead())
		_, _ = rand.Read(nonce) // it never fails
		encrypted[i] = &commonpb.Payload{
			Metadata: map[string][]byte{
				converter.MetadataEncoding: []byte(Encoding),
				MetadataKey:                []byte(k.id),
				MetadataCipher:             []byte(k.algorithm),
			},
			Data: k.aead.Seal(nonce, nonce, plain, k.bound()),
		}
	}
	return encrypted, nil
}

// bound returns the data that a ciphertext authenticates besides its content.
func (k *key) bound() []byte { return []byte(Encoding + "\n" + string(k.algorithm) + "\n" + k.id) }

// Decode decrypts the payloads that Encode has made, with any key of the ring, and passes others through.
func (c *Codec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	decrypted := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if string(p.GetMetadata()[converter.MetadataEncoding]) != Encoding {
			decrypted[i] = p
			continue
		}
		plain, err := c.decrypt(p)
		var unknown *UnknownKeyError
		if c.wait && errors.As(err, &unknown) {
			panic(err)
		}
		if err != nil {
			return nil, err
		}
		decrypted[i] = plain
	}
	return decrypted, nil
}

func (c *Codec) decrypt(p *commonpb.Payload) (*commonpb.Payload, error) {
	k, err := c.ring.byID(string(p.GetMetadata()[MetadataKey]))
	if err != nil {
		return nil, err
	}
	size := k.aead.NonceSize()
	if len(p.GetData()) < size {
		return nil, fmt.Errorf("failed to decrypt a payload with key %s: it is cut off", k.id)
	}
	text, err := k.aead.Open(nil, p.GetData()[:size], p.GetData()[size:], k.bound())
	if err != nil {
		return nil, fmt.Errorf("failed to decrypt a payload with key %s: it was changed, or encrypted with "+
			"another key of this id", k.id)
	}
	plain := &commonpb.Payload{}
	if err := proto.Unmarshal(text, plain); err != nil {
		return nil, fmt.Errorf("failed to read a payload decrypted with key %s: %w", k.id, err)
	}
	return plain, nil
}
