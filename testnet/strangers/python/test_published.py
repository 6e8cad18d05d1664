"""Health and reflection, as clients that gRPC's makers publish see them."""

import unittest

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from network import channel

from assent.v1 import audit_pb2, custodian_pb2, exchange_pb2, node_pb2, patient_pb2

OUR_FILES = (audit_pb2, custodian_pb2, exchange_pb2, node_pb2, patient_pb2)
OURS = {f"assent.v1.{name}" for file in OUR_FILES for name in file.DESCRIPTOR.services_by_name}


class Published(unittest.TestCase):
    def test_health_of_the_node_and_of_every_service(self):
        with channel("birch") as to_birch:
            stub = health_pb2_grpc.HealthStub(to_birch)
            for service in sorted(OURS | {""}):
                answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
                self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING, service)
            watched = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
            self.assertEqual(next(watched).status, health_pb2.HealthCheckResponse.SERVING)
            watched.cancel()

    def test_reflection_describes_every_service(self):
        with channel("birch") as to_birch:
            database = ProtoReflectionDescriptorDatabase(to_birch)
            self.assertLessEqual(OURS | {"grpc.health.v1.Health"}, set(database.get_services()))
            pool = DescriptorPool(database)
            for file in OUR_FILES:
                for name, service in file.DESCRIPTOR.services_by_name.items():
                    seen = pool.FindServiceByName(f"assent.v1.{name}")
                    self.assertEqual(list(seen.methods_by_name), list(service.methods_by_name))


if __name__ == "__main__":
    unittest.main()
