"""See README.md."""
import os
import re
import subprocess

from lib import mysql, paths

ADD_ALL = False


def call(*arguments, **environment):
    return subprocess.run([str(paths.worker_binary()), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                          env={**os.environ, **environment})


def test_version():
    done = call("version")
    assert done.returncode == 0 and paths.VERSION in done.stdout


def test_unknown_command():
    done = call("fly")
    assert done.returncode != 0 and "fly" in done.stdout


def test_no_such_server():
    done = call("status", "--postgres", "host=127.0.0.1 port=1 dbname=x connect_timeout=2")
    assert done.returncode != 0 and done.stdout.strip()


def test_status(scene):
    done = call("status", "--postgres", scene.pg.conninfo(scene.database))
    assert done.returncode == 0 and "shop" in done.stdout


def test_configuration_file_and_environment(scene, tmp_path):
    file = tmp_path / "tandem-sync.conf"
    file.write_text(f"postgres = {scene.pg.conninfo(scene.database)}\n")
    assert call("status", "--config", str(file)).returncode == 0
    assert call("status", TANDEM_POSTGRES=scene.pg.conninfo(scene.database)).returncode == 0


def test_check_prints_grants_that_suffice(scene):
    """A user with exactly the printed grants, and no others, moves the tables."""
    for host in ("localhost", "127.0.0.1", "%"):
        scene.old.query(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'tandem'@'{host}'")
    done = call("check", "--postgres", scene.pg.conninfo(scene.database))
    assert done.returncode != 0, done.stdout
    grants = re.findall(r"GRANT [^;\n]+ TO [^;\n]+", done.stdout)
    assert grants, done.stdout
    assert mysql.TANDEM_PASSWORD not in done.stdout
    for grant in grants:
        for host in ("localhost", "127.0.0.1", "%"):
            scene.old.query(re.sub(r" TO .*$", f" TO 'tandem'@'{host}'", grant.strip()))
    done = call("check", "--postgres", scene.pg.conninfo(scene.database))
    assert done.returncode == 0, done.stdout
    scene.add_and_start("%")
    scene.write("UPDATE c SET v = 'z'", "DELETE FROM c WHERE id = 1")
    scene.check()


def test_no_secret_in_argv(scene):
    with open(f"/proc/{scene.worker.child.pid}/cmdline", "rb") as cmdline:
        assert mysql.TANDEM_PASSWORD.encode() not in cmdline.read()
    assert mysql.TANDEM_PASSWORD not in scene.worker.log_text()
    assert mysql.TANDEM_PASSWORD not in scene.pg.log_text().split("CREATE USER MAPPING")[0]
