// A CRM's day with its hospital's node: check, request, verify, and its own accesses. cli/docs/crm.md explains each step.
//
//	cd cli/examples/go && buf generate ../../../proto
//	go run . -node https://127.0.0.1:7411 -cert C/cert.pem -key C/key.pem -ca C/ca.pem \
//	    -custodian cedar -identifier 'urn:example:mrn|1' -birth-date 1980-02-03 -actor 'Dr. Grey' -out ada.bundle
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"strings"
	"time"

	ledger "crmday/gen/assent/ledger/v1"
	api "crmday/gen/assent/v1"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	// How a file starts that `assent verify` reads; the bundle follows.
	bundleMagic = "ASSENTB1"
	limit       = 30 * time.Second
)

// errorInfo says why a call failed: each error has one ErrorInfo, with a machine-readable reason and what belongs to it.
// None when the error is not from the node: no connection, for example.
func errorInfo(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

// connect opens a channel to the hospital's own node, with the client certificate.
func connect(node, cert, key, ca string) (*grpc.ClientConn, error) {
	address, err := url.Parse(node)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	secured := credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots})
	return grpc.NewClient(address.Host, grpc.WithTransportCredentials(secured))
}

// check is true when something would be released. False says nothing about why, nor whether there is such a patient.
func check(ctx context.Context, decisions api.DecisionServiceClient, query *api.Query) (bool, error) {
	answer, err := decisions.CheckConsent(ctx, &api.CheckConsentRequest{Query: query})
	if err != nil {
		if info := errorInfo(err); info != nil && info.Reason == "NOT_RELEASED" {
			return false, nil
		}
		return false, err
	}
	// An outcome that this program does not know is no permit.
	return answer.Outcome == api.Outcome_OUTCOME_PERMIT || answer.Outcome == api.Outcome_OUTCOME_PERMIT_OVERRIDE, nil
}

// request gets the records with the proof that the access stands in the ledger. After a failure, repeat it with the same id.
func request(ctx context.Context, exchange api.ExchangeServiceClient, query *api.Query, id string) (*ledger.RecordBundle, error) {
	stream, err := exchange.RequestRecords(ctx, &api.RequestRecordsRequest{RequestId: id, Query: query})
	if err != nil {
		return nil, err
	}
	bundle := &ledger.RecordBundle{}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return bundle, nil
		}
		if err != nil {
			return nil, err
		}
		if message.Proof != nil {
			bundle.Proof = message.Proof
		}
		bundle.Resources = append(bundle.Resources, message.Resources...)
	}
}

// accesses are what this client got so far, newest first.
func accesses(ctx context.Context, exchange api.ExchangeServiceClient) iter.Seq2[*api.OwnAccess, error] {
	return func(yield func(*api.OwnAccess, error) bool) {
		for page := new(api.ListAccessesRequest); ; {
			answer, err := exchange.ListAccesses(ctx, page)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, access := range answer.Accesses {
				if !yield(access, nil) {
					return
				}
			}
			if page.PageToken = answer.NextPageToken; page.PageToken == "" {
				return
			}
		}
	}
}

func day() error {
	given := map[string]*string{}
	for _, name := range []string{"node", "cert", "key", "ca", "custodian", "identifier", "birth-date", "actor", "out"} {
		given[name] = flag.String(name, "", "needed")
	}
	flag.Parse()
	system, value, _ := strings.Cut(*given["identifier"], "|")
	patient := &api.Patient{
		Custodian: *given["custodian"], IdentifierSystem: system, IdentifierValue: value, BirthDate: *given["birth-date"],
	}
	query := func(purpose string) *api.Query {
		return &api.Query{Patient: patient, Purpose: purpose, Actor: *given["actor"]}
	}

	connection, err := connect(*given["node"], *given["cert"], *given["key"], *given["ca"])
	if err != nil {
		return err
	}
	defer connection.Close()
	decisions, exchange := api.NewDecisionServiceClient(connection), api.NewExchangeServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()

	for _, purpose := range []string{"TREAT", "HMARKT"} {
		said := "not released"
		permitted, err := check(ctx, decisions, query(purpose))
		if err != nil {
			return err
		}
		if permitted {
			said = "PERMIT (may be incomplete)"
		}
		fmt.Printf("check %s: %s\n", purpose, said)
	}
	if _, err := check(ctx, decisions, query("FUN")); err != nil {
		info := errorInfo(err)
		fmt.Println("check FUN:", info.GetDomain(), info.GetReason(), "in", info.GetMetadata()["field"])
	}

	bundle, err := request(ctx, exchange, query("TREAT"), rand.Text())
	if err != nil {
		return err
	}
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(bundle)
	if err != nil {
		return err
	}
	if err := os.WriteFile(*given["out"], append([]byte(bundleMagic), bytes...), 0o600); err != nil {
		return err
	}
	fmt.Println("request:", len(bundle.Resources), "resources in", *given["out"])

	verified, err := exchange.VerifyRecords(ctx, &api.VerifyRecordsRequest{Bundle: bundle})
	if err != nil {
		return err
	}
	if verified.Holds {
		fmt.Println("verify: holds, block", verified.AccessHeight)
	} else {
		fmt.Println("verify:", verified.Fault)
	}

	for access, err := range accesses(ctx, exchange) {
		if err != nil {
			return err
		}
		when := time.UnixMilli(int64(access.TimeMs)).UTC().Format("2006-01-02 15:04")
		fmt.Println("access:", when, access.Query.Purpose, access.Query.Actor, access.Resources, "resources")
	}
	return nil
}

func main() {
	if err := day(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
