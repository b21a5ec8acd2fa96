package transport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"hutong/transport/ptp"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// dialGRPC connects a client of gRPC's own library, with FATE's limits.
func (n *node) dialGRPC(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(n.url, "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2<<30-1), grpc.MaxCallSendMsgSize(2<<30-1)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (n *node) ptp(t testing.TB) ptp.PrivateTransferTransportClient {
	return ptp.NewPrivateTransferTransportClient(n.dialGRPC(t))
}

// fateContext returns a context with FATE's metadata. Only pushes have a target.
func fateContext(ctx context.Context, session, from, target string) context.Context {
	pairs := []string{wire.HeaderSessionID, session, wire.HeaderProvider, "FATE", wire.HeaderTraceID,
		"1700000000_77"}
	if from != "" {
		pairs = append(pairs, wire.HeaderFromNodeID, from)
	}
	if target != "" {
		pairs = append(pairs, wire.HeaderTargetNodeID, target)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// TestGRPC makes the calls of FATE's containers, on one node and across two. HTTP and gRPC share a port and
// queues.
func TestGRPC(t *testing.T) {
	net := newNetwork(t, Limits{}, "A", "B")
	for _, from := range []string{"A", "B"} {
		t.Run(from, func(t *testing.T) {
			session, topic := "fate_"+from, "fate-guest-A-host-B-<dtype>-<dtype>"
			guest, host := net[from].ptp(t), net["B"].ptp(t)
			large := bytes.Repeat([]byte("0123456789abcdef"), 5<<16)
			for _, payload := range [][]byte{nil, {0}, large, []byte("last")} {
				out, err := guest.Push(fateContext(t.Context(), session, "A", "B"),
					&ptp.PushInbound{Topic: topic, Payload: payload})
				require.NoError(t, err)
				require.Equal(t, string(status.OK), out.Code)
			}
			for _, want := range [][]byte{nil, {0}, large} {
				out, err := host.Pop(fateContext(t.Context(), session, "B", ""),
					&ptp.PopInbound{Topic: topic, Timeout: 36_000_000})
				require.NoError(t, err)
				require.Equal(t, string(status.OK), out.Code)
				require.True(t, bytes.Equal(want, out.Payload))
			}
			require.Equal(t, "last", string(net["B"].container(t, session).mustPop(topic)),
				"the same queue over HTTP")

			out, err := host.Peek(fateContext(t.Context(), session, "B", ""), &ptp.PeekInbound{Topic: topic})
			require.NoError(t, err)
			require.Equal(t, string(status.OK), out.Code)
			require.Empty(t, out.Payload)
			out, err = host.Pop(fateContext(t.Context(), session, "B", ""),
				&ptp.PopInbound{Topic: topic, Timeout: 1})
			require.NoError(t, err)
			require.Equal(t, string(status.Timeout), out.Code, "the only code that FATE checks")

			net["B"].container(t, session).mustPush("B", "left", []byte("m"))
			out, err = host.Release(fateContext(t.Context(), session, "", ""), &ptp.ReleaseInbound{})
			require.NoError(t, err)
			require.Equal(t, string(status.OK), out.Code)
			st, _ := net["B"].SessionStats(session)
			require.Zero(t, st.Messages)
		})
	}
}

// TestGRPCRefusals checks that a refused push fails with a gRPC status for callers that do not read its code.
func TestGRPCRefusals(t *testing.T) {
	net := newNetwork(t, Limits{SessionBytes: mib, MessageBytes: mib / 4}, "A")
	client := net["A"].ptp(t)
	other := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderSessionID, "s", wire.HeaderTargetNodeID,
		"Z")
	out, err := client.Push(other, &ptp.PushInbound{Topic: "x"})
	require.NoError(t, err)
	require.Equal(t, string(status.NodeUnknown), out.Code)
	out, err = client.Push(metadata.AppendToOutgoingContext(t.Context(), wire.HeaderTargetNodeID, "A"),
		&ptp.PushInbound{Topic: "x"})
	require.NoError(t, err)
	require.Equal(t, string(status.BadRequest), out.Code)

	_, err = client.Push(fateContext(t.Context(), "s", "A", "Z"), &ptp.PushInbound{Topic: "x"})
	require.Equal(t, codes.Aborted, grpcstatus.Code(err))
	require.ErrorContains(t, err, "E0000000618: no route to node \"Z\"; ask the operator to add this partner")
	_, err = client.Push(fateContext(t.Context(), "s", "A", "A"),
		&ptp.PushInbound{Payload: make([]byte, mib)})
	require.ErrorContains(t, err, string(status.TooLarge))

	// A caller's own deadline bounds its wait for an allocation.
	for i := 0; err == nil || !strings.Contains(err.Error(), string(status.BufferFull)); i++ {
		require.Less(t, i, 6, "%v", err)
		ctx, cancel := context.WithTimeout(fateContext(t.Context(), "s", "A", "A"), time.Minute)
		ctx = metadata.AppendToOutgoingContext(ctx, wire.HeaderTimeout, "2000")
		_, err = client.Push(ctx, &ptp.PushInbound{Topic: "x", Payload: make([]byte, mib/4)})
		cancel()
	}

	_, err = client.Push(fateContext(t.Context(), "s", "A", "A"), &ptp.PushInbound{Topic: "x"},
		grpc.UseCompressor("gzip"))
	require.Equal(t, codes.Unimplemented, grpcstatus.Code(err))
	err = net["A"].dialGRPC(t).
		Invoke(t.Context(), grpcContainer+"nothing", &ptp.PeekInbound{}, &ptp.TransportOutbound{})
	require.Equal(t, codes.Unimplemented, grpcstatus.Code(err))

	httpCode, _ := raw(t, "POST", net["A"].url+grpcContainer+"pop",
		map[string]string{wire.HeaderSessionID: "s"}, "{}")
	require.Equal(t, http.StatusUnsupportedMediaType, httpCode)
}

// TestGRPCPopEnds checks that a pop whose caller disconnects loses nothing, and that a waiting pop is refused
// when the transport closes.
func TestGRPCPopEnds(t *testing.T) {
	net := newNetwork(t, Limits{}, "A")
	client := net["A"].ptp(t)
	ctx, cancel := context.WithCancel(fateContext(t.Context(), "s", "A", ""))
	left := make(chan error, 1)
	go func() {
		_, err := client.Pop(ctx, &ptp.PopInbound{Topic: "x", Timeout: 36_000_000})
		left <- err
	}()
	eventually(t, "it waits", func() bool { return net["A"].Stats().Readers == 1 })
	cancel()
	require.Equal(t, codes.Canceled, grpcstatus.Code(<-left))
	eventually(t, "it left", func() bool { return net["A"].Stats().Readers == 0 })
	net["A"].container(t, "s").mustPush("A", "x", []byte("m"))
	out, err := client.Pop(fateContext(t.Context(), "s", "A", ""), &ptp.PopInbound{Topic: "x"})
	require.NoError(t, err)
	require.Equal(t, "m", string(out.Payload))

	go func() {
		_, err := client.Pop(fateContext(context.Background(), "s", "A", ""),
			&ptp.PopInbound{Topic: "x", Timeout: 36_000_000})
		left <- err
	}()
	eventually(t, "it waits", func() bool { return net["A"].Stats().Readers == 1 })
	require.NoError(t, net["A"].Close(t.Context()))
	require.Equal(t, codes.Unavailable, grpcstatus.Code(<-left))
}

// wrap returns a push inside an Inbound, with metadata.
func wrap(t testing.TB, topic, payload string, meta ...string) *ptp.Inbound {
	t.Helper()
	b, err := proto.Marshal(&ptp.PushInbound{Topic: topic, Payload: []byte(payload)})
	require.NoError(t, err)
	in := &ptp.Inbound{Payload: b, Metadata: map[string]string{}}
	for i := 0; i < len(meta); i += 2 {
		in.Metadata[meta[i]] = meta[i+1]
	}
	return in
}

// TestGRPCInvoke checks messages that name their session in their own metadata only, as some partners' do.
func TestGRPCInvoke(t *testing.T) {
	net := newNetwork(t, Limits{}, "B")
	client := ptp.NewPrivateTransferProtocolClient(net["B"].dialGRPC(t))
	uri := "https://ptp.cn" + grpcContainer + "push"
	ctx := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderURI, uri)
	message := func(session, target string) *ptp.Inbound {
		return wrap(t, "x", "m", wire.HeaderSessionID, session, wire.HeaderTargetNodeID, target,
			wire.HeaderMessageID, "1")
	}
	for _, c := range []struct {
		session, target string
		code            status.Code
	}{
		{"s", "B", status.OK}, {"s", "B", status.OK},
		{"s", "A", status.NodeUnknown}, {"", "B", status.BadRequest},
	} {
		out, err := client.Invoke(ctx, message(c.session, c.target))
		require.NoError(t, err)
		require.Equal(t, string(c.code), out.Code, out.Message)
	}
	require.Equal(t, "m", string(net["B"].container(t, "s").mustPop("x")))
	require.EqualValues(t, 1, net["B"].Stats().Duplicates)
	st, _ := net["B"].SessionStats("s")
	require.Zero(t, st.Messages)
	_, there := net["B"].SessionStats("")
	require.False(t, there, "no bytes stay with the unnamed session")

	out, err := client.Invoke(
		metadata.AppendToOutgoingContext(t.Context(), wire.HeaderURI, grpcContainer+"pop",
			wire.HeaderSessionID, "s"),
		message("s", "B"),
	)
	require.NoError(t, err)
	require.Equal(t, string(status.Forbidden), out.Code)
}

// TestGRPCStream sends many messages in one call. Each is answered when it is in its queue, and a refused one
// does not end the others.
func TestGRPCStream(t *testing.T) {
	net := newNetwork(t, Limits{}, "B")
	client := ptp.NewPrivateTransferProtocolClient(net["B"].dialGRPC(t))
	ctx := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderURI, grpcContainer+"push",
		wire.HeaderSessionID, "s", wire.HeaderTargetNodeID, "B")
	stream, err := client.Transport(ctx)
	require.NoError(t, err)
	for i := range 50 {
		in := wrap(t, "x", fmt.Sprint(i))
		if i == 20 {
			in.Payload = []byte{0xff}
		}
		require.NoError(t, stream.Send(in))
		out, err := stream.Recv()
		require.NoError(t, err)
		want := status.OK
		if i == 20 {
			want = status.BadRequest
		}
		require.Equal(t, string(want), out.Code, out.Message)
	}
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.Equal(t, io.EOF, err)
	for i := range 50 {
		if i != 20 {
			require.Equal(t, fmt.Sprint(i), string(net["B"].container(t, "s").mustPop("x")))
		}
	}

	empty, err := client.Transport(ctx)
	require.NoError(t, err)
	require.NoError(t, empty.CloseSend())
	_, err = empty.Recv()
	require.Equal(t, io.EOF, err)

	waits, err := client.Transport(ctx)
	require.NoError(t, err)
	require.NoError(t, waits.Send(wrap(t, "x", "m")))
	_, err = waits.Recv()
	require.NoError(t, err)
	require.NoError(t, net["B"].Close(t.Context()), "an open stream does not delay Close")
	_, err = waits.Recv()
	require.Equal(t, codes.Unavailable, grpcstatus.Code(err), "%v", err)
}
