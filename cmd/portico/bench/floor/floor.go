// Package floor is a server that does only what no server for these methods can leave out,
// with the libraries that anybody would take: it is what portico's are measured by.
//
// Everything that it does is real. Requests come through echo's router; bodies are parsed
// by echo's binder and answers written by encoding/json, with the fields of portico's
// answers, so that they have the same size. Tokens are HS256 and verified and issued by
// golang-jwt: signature, algorithm, audience, expiry, scope. Rows are read and written by
// database/sql with prepared statements in SQLite (modernc, as portico's), by primary key or
// a unique one, each write in a transaction of its own on the one connection that writes.
// Passwords are hashed by x/crypto's argon2id with portico's parameters. Keys are K-256 by
// indigo's atcrypto. New accounts have a DID: an operation signed and sent to the same
// directory as portico's.
//
// What it leaves out is what a server has for its users and operators beside the answer:
// limits and budgets, a record of what was done, sessions that can be listed and told from
// each other, revocation of access tokens, keys sealed at rest, queues for hashes (all that
// are asked for run at once), ETags and other headers, checks of input against lexicons,
// what other methods need indexes for, recovery of what a crash interrupted. Nor does it join
// commits of several clients. Its garbage collector is Go's default one.
//
// That is fair because it is nobody's goal to be equal to it everywhere: the goals say how
// much all of that may cost. It errs on the side of being too cheap. Where it could be
// cheaper still (a cache of rows, a hand-written reader of tokens, a pool for the memory
// of hashes), portico may go below it, and has to, to meet some goals.
package floor

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/golang-jwt/jwt/v5"
	"github.com/labstack/echo/v4"
	"golang.org/x/crypto/argon2"
)

// A Config says how a floor server runs. All fields are required.
type Config struct {
	Address       string // where it listens
	Dir           string // its database
	Synchronous   string // FULL or NORMAL
	Directory     string // URL of the PLC directory
	Hostname      string
	Secret        string // of tokens
	AdminPassword string
}

type server struct {
	Config
	serviceDID string
	rotation   *atcrypto.PrivateKeyK256
	store      *store
}

// Serve runs a floor server until it fails.
func Serve(c Config) error {
	store, err := openStore(c.Dir, c.Synchronous)
	if err != nil {
		return err
	}
	rotation, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return err
	}
	s := &server{Config: c, serviceDID: "did:web:" + c.Hostname, rotation: rotation, store: store}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	const ns = "/xrpc/com.atproto.server."
	e.GET("/xrpc/_health", s.health)
	e.GET(ns+"describeServer", s.describeServer)
	e.GET(ns+"getSession", s.getSession)
	e.GET(ns+"getServiceAuth", s.getServiceAuth)
	e.GET(ns+"listAppPasswords", s.listAppPasswords)
	e.POST(ns+"createAppPassword", s.createAppPassword)
	e.GET(ns+"checkAccountStatus", s.checkAccountStatus)
	e.POST(ns+"refreshSession", s.refreshSession)
	e.POST(ns+"createInviteCode", s.createInviteCode)
	e.POST(ns+"createSession", s.createSession)
	e.POST(ns+"createAccount", s.createAccount)
	e.GET("/xrpc/com.atproto.repo.getRecord", s.getRecord)
	e.POST("/xrpc/com.atproto.repo.createRecord", s.createRecord)
	e.Any("/xrpc/:method", func(c echo.Context) error {
		return refuse(c, http.StatusUnauthorized, "AuthMissing", "Authentication Required")
	})
	return e.Start(c.Address)
}

type refusal struct {
	Error   string `json:"error"`
	Message string `json:"message"`
}

func refuse(c echo.Context, status int, name, message string) error {
	return c.JSON(status, refusal{name, message})
}

func (s *server) health(c echo.Context) error {
	return c.JSON(http.StatusOK, struct {
		Version string `json:"version"`
	}{"0123456"})
}

func (s *server) describeServer(c echo.Context) error {
	type description struct {
		InviteCodeRequired   bool     `json:"inviteCodeRequired"`
		BlobUploadLimit      int      `json:"blobUploadLimit"`
		AvailableUserDomains []string `json:"availableUserDomains"`
		Links                struct{} `json:"links"`
		Contact              struct{} `json:"contact"`
		DID                  string   `json:"did"`
	}
	return c.JSON(http.StatusOK, description{BlobUploadLimit: 5 << 20, AvailableUserDomains: []string{"." + s.Hostname}, DID: s.serviceDID})
}

// Scopes and lifetimes of tokens.
const (
	accessScope, refreshScope = "com.atproto.access", "com.atproto.refresh"
	accessLife, refreshLife   = 2 * time.Hour, 90 * 24 * time.Hour
)

type claims struct {
	Scope string `json:"scope"`
	jwt.RegisteredClaims
}

func (s *server) issue(scope, typ, did, id string, now time.Time, life time.Duration) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{scope, jwt.RegisteredClaims{
		Audience: jwt.ClaimStrings{s.serviceDID}, Subject: did, ID: id, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(life)),
	}})
	t.Header["typ"] = typ
	return t.SignedString([]byte(s.Secret))
}

// bearer is what the token of a request says, or nil if it is not good for scope.
func (s *server) bearer(c echo.Context, scope string) *claims {
	text, ok := strings.CutPrefix(c.Request().Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil
	}
	said := new(claims)
	_, err := jwt.ParseWithClaims(text, said, func(*jwt.Token) (any, error) { return []byte(s.Secret), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience(s.serviceDID), jwt.WithExpirationRequired())
	if err != nil || said.Scope != scope {
		return nil
	}
	return said
}

func badToken(c echo.Context) error {
	return refuse(c, http.StatusBadRequest, "InvalidToken", "Token could not be verified")
}

func (s *server) getSession(c echo.Context) error {
	t := s.bearer(c, accessScope)
	if t == nil {
		return badToken(c)
	}
	a, err := s.store.account(c.Request().Context(), t.Subject)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, a)
}

func (s *server) getServiceAuth(c echo.Context) error {
	t := s.bearer(c, accessScope)
	if t == nil {
		return badToken(c)
	}
	key, err := s.store.key(c.Request().Context(), t.Subject)
	if err != nil {
		return err
	}
	now := time.Now()
	text, err := jwt.NewWithClaims(es256k{}, struct {
		Method string `json:"lxm"`
		jwt.RegisteredClaims
	}{c.QueryParam("lxm"), jwt.RegisteredClaims{
		Issuer: t.Subject, Audience: jwt.ClaimStrings{c.QueryParam("aud")}, IssuedAt: jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(time.Minute)), ID: rand.Text(),
	}}).SignedString(key)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		Token string `json:"token"`
	}{text})
}

// es256k signs tokens with K-256, which golang-jwt does not know.
type es256k struct{}

func (es256k) Alg() string                      { return "ES256K" }
func (es256k) Verify(string, []byte, any) error { return jwt.ErrTokenUnverifiable }
func (es256k) Sign(text string, key any) ([]byte, error) {
	return key.(*atcrypto.PrivateKeyK256).HashAndSign([]byte(text))
}

func (s *server) listAppPasswords(c echo.Context) error {
	t := s.bearer(c, accessScope)
	if t == nil {
		return badToken(c)
	}
	all, err := s.store.appPasswords(c.Request().Context(), t.Subject)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		Passwords []appPassword `json:"passwords"`
	}{all})
}

// createAppPassword is there for listAppPasswords to have something to list.
func (s *server) createAppPassword(c echo.Context) error {
	t := s.bearer(c, accessScope)
	if t == nil {
		return badToken(c)
	}
	made := appPassword{CreatedAt: time.Now().UTC()}
	if err := c.Bind(&made); err != nil {
		return err
	}
	if err := s.store.addAppPassword(c.Request().Context(), t.Subject, made); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, made)
}

func (s *server) checkAccountStatus(c echo.Context) error {
	t := s.bearer(c, accessScope)
	if t == nil {
		return badToken(c)
	}
	r, err := s.store.repo(c.Request().Context(), t.Subject)
	if err != nil {
		return err
	}
	type status struct {
		Activated          bool   `json:"activated"`
		ValidDID           bool   `json:"validDid"`
		RepoCommit         string `json:"repoCommit"`
		RepoRev            string `json:"repoRev"`
		RepoBlocks         int    `json:"repoBlocks"`
		IndexedRecords     int    `json:"indexedRecords"`
		PrivateStateValues int    `json:"privateStateValues"`
		ExpectedBlobs      int    `json:"expectedBlobs"`
		ImportedBlobs      int    `json:"importedBlobs"`
	}
	return c.JSON(http.StatusOK, status{Activated: r.active, ValidDID: true, RepoCommit: r.commit.String(), RepoRev: r.rev, IndexedRecords: r.records})
}

func (s *server) createInviteCode(c echo.Context) error {
	user, given, _ := c.Request().BasicAuth()
	if user != "admin" || subtle.ConstantTimeCompare([]byte(given), []byte(s.AdminPassword)) != 1 {
		return refuse(c, http.StatusUnauthorized, "AuthenticationRequired", "Authentication Required")
	}
	var in struct {
		UseCount   int    `json:"useCount"`
		ForAccount string `json:"forAccount"`
	}
	if err := c.Bind(&in); err != nil {
		return err
	}
	var random [8]byte
	rand.Read(random[:])
	text := strings.ToLower(base32.StdEncoding.EncodeToString(random[:]))
	code := strings.ReplaceAll(s.Hostname, ".", "-") + "-" + text[:5] + "-" + text[5:10]
	if err := s.store.addInvite(c.Request().Context(), code, in.UseCount, in.ForAccount); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		Code string `json:"code"`
	}{code})
}

// session is the answer to who signed in.
type session struct {
	Access  string `json:"accessJwt"`
	Refresh string `json:"refreshJwt"`
	*account
	Document map[string]any `json:"didDoc,omitempty"`
}

// begin issues the tokens of a session whose row has the hash of the id that it returns.
func (s *server) begin(a *account, now time.Time) (out session, id string, err error) {
	var random [32]byte
	rand.Read(random[:])
	id = base64.RawStdEncoding.EncodeToString(random[:])
	out.account = a
	if out.Access, err = s.issue(accessScope, "at+jwt", a.DID, "", now, accessLife); err == nil {
		out.Refresh, err = s.issue(refreshScope, "refresh+jwt", a.DID, id, now, refreshLife)
	}
	return out, id, err
}

func (s *server) hashID(id string) []byte {
	h := hmac.New(sha256.New, []byte(s.Secret))
	h.Write([]byte(id))
	return h.Sum(nil)
}

// refreshSession lets the row of a session name its successor, and end soon: the token that
// was presented works a little longer.
func (s *server) refreshSession(c echo.Context) error {
	t := s.bearer(c, refreshScope)
	if t == nil {
		return badToken(c)
	}
	ctx := c.Request().Context()
	a, err := s.store.account(ctx, t.Subject)
	if err != nil {
		return err
	}
	now := time.Now()
	out, id, err := s.begin(a, now)
	if err != nil {
		return err
	}
	if err := s.store.rotate(a.DID, s.hashID(t.ID), s.hashID(id), now); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, out)
}

// hash is argon2id with the parameters of portico's [password.DefaultParams].
func hash(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, 2, 19*1024, 1, 32)
}

func (s *server) createSession(c echo.Context) error {
	var in struct {
		Identifier string `json:"identifier"`
		Password   string `json:"password"`
	}
	if err := c.Bind(&in); err != nil {
		return err
	}
	ctx := c.Request().Context()
	a, salt, want, err := s.store.login(ctx, in.Identifier)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(hash(in.Password, salt), want) != 1 {
		return refuse(c, http.StatusUnauthorized, "AuthenticationRequired", "Invalid identifier or password")
	}
	now := time.Now()
	out, id, err := s.begin(a, now)
	if err != nil {
		return err
	}
	if err := s.store.addSession(ctx, s.hashID(id), a.DID, now.Add(refreshLife)); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, out)
}

func (s *server) createAccount(c echo.Context) error {
	var in struct {
		Handle   string `json:"handle"`
		Email    string `json:"email"`
		Password string `json:"password"`
	}
	if err := c.Bind(&in); err != nil {
		return err
	}
	ctx := c.Request().Context()
	n := newAccount{account: account{Handle: in.Handle, Email: in.Email, Active: true}, salt: make([]byte, 16)}
	rand.Read(n.salt)
	n.hash = hash(in.Password, n.salt)
	var err error
	if n.key, err = atcrypto.GeneratePrivateKeyK256(); err != nil {
		return err
	}
	if n.DID, err = s.register(ctx, in.Handle, n.key); err != nil {
		return err
	}
	if n.repo, err = emptyRepo(n.DID, n.key); err != nil {
		return err
	}
	now := time.Now()
	out, id, err := s.begin(&n.account, now)
	if err != nil {
		return err
	}
	n.session, n.expires = s.hashID(id), now.Add(refreshLife)
	if err := s.store.addAccount(&n); err != nil {
		return err
	}
	out.Document, err = s.document(in.Handle, n.DID, n.key)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, out)
}

// background is for transactions, which are not given up halfway.
var background = context.Background()
