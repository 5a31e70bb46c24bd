"""See README.md."""
import psycopg2
import pytest

from lib import mysql, process, tandem

ADD_ALL = False


def authority(folder, name):
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    process.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}", "-keyout", key, "-out", certificate,
                 "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"])
    return key, certificate


def certificate(folder, name, issuer, host):
    key, request, signed, extension = (folder / f"{name}.{end}" for end in ("key", "csr", "pem", "ext"))
    process.run(["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}", "-keyout", key, "-out", request])
    extension.write_text(f"subjectAltName={'IP' if host[0].isdigit() else 'DNS'}:{host}\nextendedKeyUsage=serverAuth\n")
    process.run(["openssl", "x509", "-req", "-in", request, "-CA", issuer[1], "-CAkey", issuer[0], "-CAcreateserial", "-days", "30", "-extfile", extension,
                 "-out", signed])
    return key, signed


@pytest.fixture(scope="session")
def papers(folder):
    home = folder / "papers"
    home.mkdir()
    good, other = authority(home, "good-ca"), authority(home, "other-ca")
    made = {"ca": good[1], "wrong_ca": other[1], "right": certificate(home, "right", good, "127.0.0.1"), "stranger": certificate(home, "stranger", good, "db.example.org")}
    process.run(["chmod", "-R", "a+rX", home])
    return made


@pytest.fixture(scope="session")
def tls_server(folder, papers):
    server = mysql.server("mariadb", folder, "tls", [f"--ssl-ca={papers['ca']}", f"--ssl-key={papers['right'][0]}", f"--ssl-cert={papers['right'][1]}"]).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def strange_server(folder, papers):
    server = mysql.server("mariadb", folder, "strange", [f"--ssl-ca={papers['ca']}", f"--ssl-key={papers['stranger'][0]}", f"--ssl-cert={papers['stranger'][1]}"]).start()
    yield server
    server.kill()


def scene_on(server, pg, folder, request):
    made = tandem.Scene(server, pg, folder, "tls")
    request.addfinalizer(made.close)
    made.create((request.path.parent / "schema.sql").read_text())
    made.run_worker()
    made.wait_worker()
    return made


def refused(scene, **arguments):
    with pytest.raises(psycopg2.Error) as caught:
        scene.add_source(server=False, **arguments)
    assert scene.value("SELECT count(*) FROM tandem.source") == 0
    return str(caught.value)


def test_verified(tls_server, papers, pg, folder, request):
    scene = scene_on(tls_server, pg, folder, request)
    # An account that the server refuses without TLS: every session of the worker must have it.
    for host in ("localhost", "127.0.0.1", "%"):
        tls_server.query(f"GRANT USAGE ON *.* TO 'tandem'@'{host}' REQUIRE SSL")
    scene.create_server(ssl_ca=papers["ca"])
    scene.add_source(server=False, tls="verify")
    assert scene.value("SELECT old_side ->> 'tls_cipher' FROM tandem.source")
    scene.add_and_start("%")
    scene.write("INSERT INTO s VALUES (3, 'over TLS')")
    scene.check()


def test_wrong_authority(tls_server, papers, pg, folder, request):
    scene = scene_on(tls_server, pg, folder, request)
    scene.create_server(ssl_ca=papers["wrong_ca"])
    message = refused(scene, tls="verify")
    assert "certificate" in message.lower() or "tls" in message.lower() or "ssl" in message.lower(), message
    # The server options name a CA, so `auto` verifies as well and does not fall back to clear text.
    refused(scene, tls="auto")


def test_certificate_of_another_host(strange_server, papers, pg, folder, request):
    scene = scene_on(strange_server, pg, folder, request)
    scene.create_server(ssl_ca=papers["ca"])
    refused(scene, tls="verify")


def test_server_without_tls(old, pg, folder, papers, request):
    scene = scene_on(old, pg, folder, request)
    scene.create_server(ssl_ca=papers["ca"])
    message = refused(scene, tls="verify")
    assert "tls" in message.lower() or "ssl" in message.lower(), message
    refused(scene, tls="auto")


def test_clear_text_by_explicit_choice(old, pg, folder, request):
    scene = scene_on(old, pg, folder, request)
    scene.create_server()
    scene.add_source(server=False, tls="disable")
    scene.add_and_start("%")
    scene.check()
